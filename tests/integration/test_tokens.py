"""cleanup.tokens on the tables that simplejwt's own migrations make, with tokens that it has issued."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from consumers.cleanup.tokens import tokens as job
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker import context
from publishers import trigger
from schemas.ticks import CleanTokens
from tests.fixtures.suite import Consume, Deliver, Runs
from tests.fixtures.tokens import Tokens, a_token, days_ago
from tests.support.job_contexts import job_context
from tests.support.waiting import eventually

JOB = "cleanup.tokens"
EXPIRED = {"count": 5, "issued_days_ago": 70, "blacklist": 2}  # 40 days ago
WITHIN_MARGIN = {"count": 4, "issued_days_ago": 40, "blacklist": 1}  # 10 days ago
VALID = {"count": 3, "issued_days_ago": 1, "blacklist": 3}


async def test_tokens_expired_before_the_margin_are_deleted_with_their_blacklist_rows(deliver: Deliver, tokens: Tokens):
    tokens.issue(EXPIRED, WITHIN_MARGIN, VALID)

    row = await deliver(CleanTokens())

    assert row["status"] == "succeeded"
    assert row["statistics"] == {
        "scanned": 12,
        "outstanding_deleted": 5,
        "blacklisted_deleted": 2,
        "kept_within_margin": 4,
        "unreadable": 0,
    }
    assert tokens.counts() == (7, 4)


async def test_dry_run_counts_the_same_and_changes_nothing(deliver: Deliver, tokens: Tokens):
    tokens.issue(EXPIRED, WITHIN_MARGIN, VALID)

    dry = await deliver(CleanTokens(dry_run=True))
    assert tokens.counts() == (12, 6)
    real = await deliver(CleanTokens())

    assert dry["statistics"] == real["statistics"]
    assert (dry["dry_run"], real["dry_run"]) == (True, False)


@pytest.mark.parametrize(("days", "deleted"), [(0, 9), (9, 9), (11, 5), (39, 5), (41, 0)])
async def test_retention_is_that_of_the_message(deliver: Deliver, tokens: Tokens, days: int, deleted: int):
    tokens.issue(EXPIRED, WITHIN_MARGIN, VALID)

    row = await deliver(CleanTokens(retention_days=days))

    assert row["statistics"]["outstanding_deleted"] == deleted
    assert row["statistics"]["kept_within_margin"] == 9 - deleted


async def test_revoked_token_that_is_still_valid_stays_revoked(deliver: Deliver, tokens: Tokens):
    tokens.issue(VALID)

    await deliver(CleanTokens(retention_days=0))

    assert tokens.counts() == (3, 3)


async def test_expiry_of_the_token_overrides_the_column(deliver: Deliver, tokens: Tokens):
    long_ago, ahead = days_ago(60), days_ago(-5)
    says_expired = tokens.add(a_token(exp=int(long_ago.timestamp())), expires_at=ahead, blacklisted=True)
    says_valid = tokens.add(a_token(exp=int(ahead.timestamp())), expires_at=long_ago)

    await deliver(CleanTokens())

    assert says_expired not in tokens.ids()
    assert says_valid in tokens.ids()


async def test_unreadable_token_is_decided_by_its_column_and_counted(deliver: Deliver, tokens: Tokens):
    kinds = ["", "rubbish", "a.b.c", a_token(), a_token(exp="soon"), a_token(exp=True), a_token(exp=None)]
    old = [tokens.add(kind, expires_at=days_ago(60)) for kind in kinds]
    new = [tokens.add(kind, expires_at=days_ago(10)) for kind in kinds]

    row = await deliver(CleanTokens())

    assert tokens.ids() == set(new)
    assert row["statistics"]["unreadable"] == len(old) + len(new)
    assert row["statistics"]["kept_within_margin"] == len(new)


async def test_milliseconds_and_huge_values_are_kept(deliver: Deliver, tokens: Tokens):
    kept = [
        tokens.add(a_token(exp=exp), expires_at=days_ago(60))
        for exp in (int(days_ago(60).timestamp() * 1000), 10**18, 10**30)
    ]

    row = await deliver(CleanTokens())

    assert tokens.ids() == set(kept)
    assert row["statistics"]["unreadable"] == 0


async def test_sliding_token_expires_with_its_refresh(deliver: Deliver, tokens: Tokens):
    old = int(days_ago(60).timestamp())
    refreshable = tokens.add(a_token(token_type="sliding", exp=old, refresh_exp=int(days_ago(1).timestamp())))
    over = tokens.add(a_token(token_type="sliding", exp=old, refresh_exp=old + 9), blacklisted=True)
    tokens.issue({"count": 1, "issued_days_ago": 40, "kind": "sliding"})  # refreshable for a day

    row = await deliver(CleanTokens())

    assert over not in tokens.ids()
    assert refreshable in tokens.ids()
    assert row["statistics"]["outstanding_deleted"] == 2
    assert row["statistics"]["kept_within_margin"] == 1


async def test_empty_table_succeeds(deliver: Deliver, tokens: Tokens):
    row = await deliver(CleanTokens())

    assert row["status"] == "succeeded"
    assert set(row["statistics"].values()) == {0}


async def test_site_without_simplejwt_is_skipped(deliver: Deliver, tokens: Tokens):
    with psycopg.connect(tokens.database_url) as connection:
        connection.execute("DROP TABLE token_blacklist_blacklistedtoken, token_blacklist_outstandingtoken")

    row = await deliver(CleanTokens())

    assert row["status"] == "skipped"
    assert row["error"].startswith("table token_blacklist_outstandingtoken: does not exist, ")
    assert "INSTALLED_APPS" in row["error"]


@pytest.mark.parametrize("page", [job.PAGE, 3, 2])
async def test_limit_makes_the_run_partial(
    deliver: Deliver, tokens: Tokens, monkeypatch: pytest.MonkeyPatch, page: int
):
    monkeypatch.setattr(job, "PAGE", page)
    tokens.issue(EXPIRED)

    row = await deliver(CleanTokens(max_deleted=3))

    assert row["status"] == "partial"
    assert row["error"] == "max_deleted 3: limit reached; the next run continues"
    assert row["statistics"]["outstanding_deleted"] == 3
    assert tokens.counts()[0] == 2


async def test_run_out_of_time_is_continued_and_nothing_is_done_twice(
    consume: Consume, relay: None, publisher: Publisher, runs: Runs, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
):
    tokens.issue({"count": 10, "issued_days_ago": 70}, VALID)
    monkeypatch.setattr(job, "PAGE", 4)

    async with consume(time_budget=timedelta(0)):
        first = await trigger.publish(publisher, CleanTokens())

        async def chain() -> list[dict[str, Any]] | None:
            rows = await runs.newest(job="cleanup.tokens")
            over = rows and rows[0]["status"] != "running" and "continued_by" not in rows[0]["statistics"]
            return rows[::-1] if over else None

        rows = await eventually(chain)

    ids = [first.message_id, f"{first.message_id}.1", f"{first.message_id}.1.1", f"{first.message_id}.1.1.1"]
    assert [row["message_id"] for row in rows] == ids
    assert [row["statistics"]["scanned"] for row in rows] == [4, 4, 4, 1]
    assert sum(row["statistics"]["outstanding_deleted"] for row in rows) == 10
    assert {row["correlation_id"] for row in rows} == {first.message_id}
    assert {(row["trigger"], row["attempt"], row["status"]) for row in rows} == {("manual", 1, "succeeded")}
    assert tokens.counts() == (3, 3)


async def test_continuations_share_one_limit(
    consume: Consume, relay: None, publisher: Publisher, runs: Runs, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
):
    tokens.issue(EXPIRED)
    monkeypatch.setattr(job, "PAGE", 2)

    async with consume(time_budget=timedelta(0)):
        sent = await trigger.publish(publisher, CleanTokens(max_deleted=3))
        first, second = await runs.over(sent.message_id), await runs.over(f"{sent.message_id}.1")

    assert [row["statistics"]["outstanding_deleted"] for row in (first, second)] == [2, 1]
    assert (first["status"], second["status"]) == ("succeeded", "partial")
    assert tokens.counts()[0] == 2


async def test_run_out_of_limit_and_time_is_not_continued(
    consume: Consume, publisher: Publisher, runs: Runs, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
):
    tokens.issue(EXPIRED)
    monkeypatch.setattr(job, "PAGE", 3)

    async with consume(time_budget=timedelta(0)):
        sent = await trigger.publish(publisher, CleanTokens(max_deleted=3))
        row = await runs.over(sent.message_id)

    assert row["status"] == "partial"
    assert "continued_by" not in row["statistics"]
    assert tokens.counts()[0] == 2


async def test_run_reports_its_progress(deliver: Deliver, tokens: Tokens, monkeypatch: pytest.MonkeyPatch):
    tokens.issue({"count": 20, "issued_days_ago": 70})
    monkeypatch.setattr(job, "PAGE", 5)
    monkeypatch.setattr(context, "PROGRESS_INTERVAL", 0.0)

    row = await deliver(CleanTokens(dry_run=True))

    assert row["progress"] == 1.0


async def test_concurrent_runs_share_the_work(database: Database, settings: Settings, tokens: Tokens):
    tokens.issue({"count": 300, "issued_days_ago": 70, "blacklist": 100}, VALID)

    first, second = (job_context(JOB, database, settings) for _ in range(2))
    await asyncio.gather(job.clean_tokens(CleanTokens(), first), job.clean_tokens(CleanTokens(), second))

    assert tokens.counts() == (3, 3)
    for name, total in (("outstanding_deleted", 300), ("blacklisted_deleted", 100)):
        assert first.statistics[name] + second.statistics[name] == total


async def test_token_locked_by_a_login_is_left_for_the_next_run(deliver: Deliver, tokens: Tokens):
    tokens.issue(EXPIRED)
    held = min(tokens.ids())

    with psycopg.connect(tokens.database_url) as login:
        login.execute("SELECT id FROM token_blacklist_outstandingtoken WHERE id = %s FOR UPDATE", [held])
        row = await deliver(CleanTokens())

    assert row["status"] == "succeeded"
    assert row["statistics"]["outstanding_deleted"] == 4
    assert tokens.ids() == {held}


async def test_concurrent_logins_neither_wait_nor_lose_their_tokens(deliver: Deliver, tokens: Tokens):
    tokens.issue(EXPIRED)

    with psycopg.connect(tokens.database_url) as login:  # not committed while the job runs
        login.execute(
            "INSERT INTO token_blacklist_outstandingtoken (token, created_at, expires_at, user_id, jti) "
            "VALUES (%s, now(), now() + interval '30 days', 1, 'fresh')",
            [a_token(exp=int(days_ago(-30).timestamp()))],
        )
        row = await deliver(CleanTokens())

    assert row["statistics"]["outstanding_deleted"] == 5
    assert tokens.counts() == (1, 0)


async def test_token_blacklisted_during_the_run_leaves_no_orphan(deliver: Deliver, tokens: Tokens):
    tokens.issue(EXPIRED)
    late = max(tokens.ids())

    login = psycopg.connect(tokens.database_url)
    login.execute("INSERT INTO token_blacklist_blacklistedtoken (blacklisted_at, token_id) VALUES (now(), %s)", [late])
    row = await deliver(CleanTokens())
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        login.commit()  # it was too late: the token had been gone for weeks
    login.close()

    assert row["status"] == "succeeded"
    assert tokens.counts() == (0, 0)
