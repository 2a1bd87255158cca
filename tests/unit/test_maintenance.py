"""The rules of the purge, and what is worth a vacuum."""

from datetime import timedelta

import pytest

from consumers.analytics.rollup.daily_activity import LATE
from consumers.maintenance import purge_logs, vacuum
from consumers.maintenance.queries.vacuuming import Table
from consumers.maintenance.retention import KEEP_FOR_DEDUPLICATION, RULES
from pocketwatch.errors import Reject
from pocketwatch.worker.backoff import MAX_HOLD
from pocketwatch.worker.retry_policy import DELAYS
from publishers.cron import HORIZON
from schemas.ticks import PurgeLogs

BY_TABLE = {rule.table: rule for rule in RULES}
RECOGNISES_REPEATS = ("inbox", "outbox", "fires", "moderation_notification_logs")


def test_what_recognises_a_repeat_outlives_every_copy_that_the_suite_itself_makes():
    waits = sum((queue.delay for queue in DELAYS), timedelta(0))

    assert HORIZON + waits + len(DELAYS) * MAX_HOLD < timedelta(days=8) < KEEP_FOR_DEDUPLICATION


@pytest.mark.parametrize("table", RECOGNISES_REPEATS)
def test_no_message_can_ask_for_less(table: str):
    assert BY_TABLE[table].keep(0) == KEEP_FOR_DEDUPLICATION


def test_the_history_of_runs_is_kept_as_long_as_the_message_says():
    assert BY_TABLE["update_logs"].keep(90) == timedelta(days=90)
    assert BY_TABLE["fires"].keep(90) == timedelta(days=90)


@pytest.mark.parametrize("table", ["update_logs", "moderation_notification_logs"])
def test_what_the_roll_up_counts_is_there_for_as_long_as_it_may_count_a_day_anew(table: str):
    today, longer_by_a_change_of_clocks = timedelta(days=1), timedelta(hours=1)

    assert BY_TABLE[table].keep(0) > LATE + today + longer_by_a_change_of_clocks


def test_what_only_recognises_repeats_is_kept_no_longer_than_that_needs():
    assert BY_TABLE["inbox"].keep(90) == BY_TABLE["outbox"].keep(90) == KEEP_FOR_DEDUPLICATION


def test_each_table_has_one_rule_with_a_reason():
    assert len(BY_TABLE) == len(RULES)
    assert all(rule.why for rule in RULES)


def test_a_run_goes_on_where_another_one_stopped():
    left = [(rule.table, after) for rule, after in purge_logs.rules_left(PurgeLogs(from_table="inbox", after=128))]

    assert left == [("inbox", 128), ("outbox", 0), ("fires", 0)]


def test_a_table_without_a_rule_is_told():
    with pytest.raises(Reject, match='from_table is "car_ads", which is not purged; known are update_logs, '):
        purge_logs.rules_left(PurgeLogs(from_table="car_ads"))


@pytest.mark.parametrize(
    ("dead", "live", "worth_it"), [(999, 0, False), (1000, 0, True), (1000, 20_000, True), (1000, 20_001, False)]
)
def test_a_vacuum_is_worth_it_from_a_thousand_dead_rows_and_a_twentieth_of_the_table(
    dead: int, live: int, *, worth_it: bool
):
    assert vacuum.is_worth_it(Table("inbox", "public.inbox", 1, dead, live)) is worth_it


def test_only_tables_that_the_jobs_write_to_may_be_vacuumed():
    assert {"inbox", "update_logs", "car_ads", "token_blacklist_outstandingtoken"} <= set(vacuum.ALLOWED)
    assert "auth_user" not in vacuum.ALLOWED
