"""The rules of the purge, and which tables need a vacuum."""

from datetime import timedelta

import pytest

from consumers.analytics.rollup.daily_activity import LATE
from consumers.maintenance.purge import purge_logs
from consumers.maintenance.retention import KEEP_FOR_DEDUPLICATION, RULES
from consumers.maintenance.vacuum import vacuum
from consumers.maintenance.vacuum.queries import Table
from pocketwatch.errors import Reject
from pocketwatch.worker.backoff import MAX_HOLD
from pocketwatch.worker.retry_policy import DELAYS
from publishers.schedule import HORIZON
from schemas.ticks import PurgeLogs

BY_TABLE = {rule.table: rule for rule in RULES}
DETECTS_DUPLICATES = ("inbox", "outbox", "fires", "moderation_notification_logs")


def test_records_of_duplicates_outlive_every_copy_of_a_message():
    waits = sum((queue.delay for queue in DELAYS), timedelta(0))

    assert HORIZON + waits + len(DELAYS) * MAX_HOLD < timedelta(days=8) < KEEP_FOR_DEDUPLICATION


@pytest.mark.parametrize("table", DETECTS_DUPLICATES)
def test_no_message_can_shorten_deduplication(table: str):
    assert BY_TABLE[table].keep(0) == KEEP_FOR_DEDUPLICATION


def test_run_log_is_kept_as_long_as_the_message_says():
    assert BY_TABLE["update_logs"].keep(90) == timedelta(days=90)
    assert BY_TABLE["fires"].keep(90) == timedelta(days=90)


@pytest.mark.parametrize("table", ["update_logs", "moderation_notification_logs"])
def test_rows_are_kept_until_the_roll_up_no_longer_recounts_their_day(table: str):
    today, longer_by_a_change_of_clocks = timedelta(days=1), timedelta(hours=1)

    assert BY_TABLE[table].keep(0) > LATE + today + longer_by_a_change_of_clocks


def test_inbox_and_outbox_are_kept_no_longer_than_deduplication_needs():
    assert BY_TABLE["inbox"].keep(90) == BY_TABLE["outbox"].keep(90) == KEEP_FOR_DEDUPLICATION


def test_each_table_has_one_rule_with_a_reason():
    assert len(BY_TABLE) == len(RULES)
    assert all(rule.why for rule in RULES)


def test_continuation_starts_where_the_run_before_stopped():
    left = [(rule.table, after) for rule, after in purge_logs.rules_from(PurgeLogs(from_table="inbox", after=128))]

    assert left[:3] == [("inbox", 128), ("outbox", 0), ("fires", 0)]
    assert [table for table, _ in left] == list(BY_TABLE)[list(BY_TABLE).index("inbox") :]


@pytest.mark.parametrize("after", [2**32 - 1, 2**63 - 1])
def test_block_that_no_table_has_is_refused(after: int):
    with pytest.raises(Reject, match="cannot have so many blocks"):
        purge_logs.rules_from(PurgeLogs(from_table="inbox", after=after))
    assert purge_logs.rules_from(PurgeLogs(from_table="update_logs", after=after))


def test_table_without_a_rule_is_refused():
    with pytest.raises(Reject, match='from_table "car_ads": not purged; use one of update_logs, '):
        purge_logs.rules_from(PurgeLogs(from_table="car_ads"))


@pytest.mark.parametrize(
    ("dead", "live", "needed"), [(999, 0, False), (1000, 0, True), (1000, 20_000, True), (1000, 20_001, False)]
)
def test_table_needs_vacuum_from_a_thousand_dead_rows_and_a_twentieth(dead: int, live: int, *, needed: bool):
    assert vacuum.needs_vacuum(Table("inbox", "public.inbox", 1, dead, live)) is needed


def test_only_tables_that_jobs_write_to_may_be_vacuumed():
    assert {"inbox", "update_logs", "car_ads", "token_blacklist_outstandingtoken"} <= set(vacuum.ALLOWED)
    assert "auth_user" not in vacuum.ALLOWED
