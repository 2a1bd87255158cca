"""analytics.quick_stats: each figure equals a plain count, all as of one moment."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from consumers.analytics import quick_stats as job
from consumers.analytics import snapshots, transactions
from consumers.analytics.quick_stats import Figures
from consumers.analytics.rollup import id_ranges, rollup
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.errors import RetryLater
from pocketwatch.settings import Settings
from pocketwatch.storage import locks
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import JobContext
from publishers import trigger
from schemas.ticks import QuickStats
from tests.fixtures.activity import ZONE, Activity, at
from tests.fixtures.sessions import Sessions
from tests.fixtures.suite import Consume, Deliver, Program, Runs
from tests.support.inserting import inserting
from tests.support.job_contexts import job_context
from tests.support.waiting import eventually

JOB = "analytics.quick_stats"
KEYS = tuple(Figures.__dataclass_fields__)
CONTRACT = (
    "total_ads",
    "active_ads",
    "total_users",
    "active_users",
    "premium_accounts",
    "total_views",
    "today_ads",
    "today_views",
    "new_users_today",
)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roll up in several transactions, as on a site with years of views."""
    monkeypatch.setattr(id_ranges, "AT_ONCE", 2)


async def run_at(moment: datetime, database: Database, settings: Settings) -> dict[str, Any]:
    """What the job finds at this moment."""
    work = job_context(JOB, database, settings, now=moment)
    async with work.session:
        await job.quick_stats(QuickStats(), work)
        await work.session.commit()
    return figures(work)


def figures(context: JobContext) -> dict[str, Any]:
    return {key: context.statistics[key] for key in CONTRACT}


def today(moment: datetime | None = None) -> Any:
    return (moment or datetime.now(UTC)).astimezone(ZoneInfo(ZONE)).date()


def everything(activity: Activity, now: datetime) -> None:
    """Something of each kind, on both sides of each border."""
    day = timedelta(days=1)
    for status in ("active", "active", "sold", "draft"):
        activity.ads(now, now - day, None, status=status)
    activity.users(now, now - day, None)
    activity.users(now, active=False, account="PREMIUM")
    activity.users(now - day, account="premium")
    activity.users(now - day, account="BASIC")
    activity.views(now, now - day, now - 400 * day, None, count=7)


def test_figures_have_the_names_of_the_contract():
    assert KEYS == CONTRACT


async def test_each_figure_equals_a_plain_count(deliver: Deliver, activity: Activity):
    everything(activity, datetime.now(UTC))

    row = await deliver(QuickStats())

    assert row["status"] == "succeeded"
    counted = activity.counts(today())
    assert {key: row["statistics"][key] for key in CONTRACT} == counted
    assert all(count > 0 for count in counted.values())
    assert counted["premium_accounts"] == 2


async def test_result_is_stored_and_announced(deliver: Deliver, activity: Activity):
    everything(activity, datetime.now(UTC))

    row = await deliver(QuickStats())

    (stored,) = activity.rows("SELECT * FROM analytics_snapshots")
    assert (stored["kind"], stored["locale"]) == ("quick_stats", None)
    assert stored["payload"] == activity.counts(today())
    assert stored["expires_at"] - stored["generated_at"] == timedelta(days=2)
    (fact,) = activity.rows("SELECT exchange, routing_key, payload FROM outbox")
    assert (fact["exchange"], fact["routing_key"]) == ("facts", "report.ready")
    assert fact["payload"] == {
        "kind": "quick_stats",
        "locale": None,
        "period": stored["period"],
        "snapshot_id": stored["id"],
    }
    assert row["statistics"]["cached"] is True


async def test_result_is_cached_in_redis_for_an_hour(
    database: Database, settings: Settings, activity: Activity, sessions: Sessions
):
    everything(activity, datetime.now(UTC))

    await run_at(datetime.now(UTC), database, settings_with(settings, redis_url=sessions.url))

    value = json.loads(sessions.redis.get("pocketwatch:analytics:quick_stats") or "{}")
    (row,) = activity.rows("SELECT period, payload, generated_at FROM analytics_snapshots")
    assert value == {
        "kind": "quick_stats",
        "locale": None,
        "period": row["period"],
        "generated_at": value["generated_at"],
        "payload": row["payload"],
    }
    assert datetime.fromisoformat(value["generated_at"]) == row["generated_at"]
    assert 3500 < sessions.redis.ttl("pocketwatch:analytics:quick_stats") <= 3600


def settings_with(settings: Settings, *, redis_url: str | None) -> Settings:
    servers = settings.servers.model_copy(update={"redis_url": redis_url})
    return settings.model_copy(update={"servers": servers})


@pytest.mark.parametrize("redis_url", [None, "redis://127.0.0.1:1/0"])
async def test_run_without_redis_succeeds_uncached(
    database: Database, settings: Settings, activity: Activity, redis_url: str | None
):
    work = job_context(JOB, database, settings_with(settings, redis_url=redis_url))
    async with work.session:
        await job.quick_stats(QuickStats(), work)
        await work.session.commit()

    assert work.status == "succeeded"
    assert work.statistics["cached"] is False
    assert len(activity.rows("SELECT * FROM analytics_snapshots")) == 1


async def keep_report(day: str, database: Database, settings: Settings) -> bool:
    """Store the report of a day; whether Redis has it, too."""
    work = job_context(JOB, database, settings)
    async with work.session:
        stored = await snapshots.store(
            work, kind="daily_report", locale="uk", period=day, payload={"day": day}, keep=timedelta(days=400)
        )
        await work.session.commit()
    return stored.cached


async def test_earlier_period_does_not_replace_a_later_one_in_redis(
    database: Database, settings: Settings, activity: Activity, sessions: Sessions
):
    with_redis = settings_with(settings, redis_url=sessions.url)

    cached = [await keep_report(day, database, with_redis) for day in ("2026-03-28", "2026-03-29", "2025-01-01")]

    value = json.loads(sessions.redis.get("pocketwatch:analytics:daily_report:uk") or "{}")
    assert (value["period"], cached) == ("2026-03-29", [True, True, False])
    assert len(activity.rows("SELECT * FROM analytics_snapshots")) == 3


async def test_report_made_again_replaces_its_copy_in_redis(
    database: Database, settings: Settings, activity: Activity, sessions: Sessions
):
    with_redis = settings_with(settings, redis_url=sessions.url)
    await keep_report("2026-03-29", database, with_redis)
    first = json.loads(sessions.redis.get("pocketwatch:analytics:daily_report:uk") or "{}")

    await keep_report("2026-03-29", database, with_redis)

    again = json.loads(sessions.redis.get("pocketwatch:analytics:daily_report:uk") or "{}")
    assert again["generated_at"] > first["generated_at"]


async def test_earlier_period_is_not_cached_after_redis_lost_the_newest(
    database: Database, settings: Settings, activity: Activity, sessions: Sessions
):
    with_redis = settings_with(settings, redis_url=sessions.url)
    await keep_report("2026-03-29", database, with_redis)
    sessions.redis.flushdb()

    await keep_report("2025-01-01", database, with_redis)

    assert sessions.redis.get("pocketwatch:analytics:daily_report:uk") is None


async def test_snapshot_from_a_wrong_clock_does_not_block_the_cache(
    database: Database, settings: Settings, activity: Activity, sessions: Sessions
):
    with_redis = settings_with(settings, redis_url=sessions.url)
    await keep_report("2036-03-29", database, settings_with(settings, redis_url=None))
    activity.run("UPDATE analytics_snapshots SET generated_at = '2036-03-30 09:00Z'")

    assert await keep_report("2026-03-29", database, with_redis)


async def test_same_period_twice_is_one_row(database: Database, settings: Settings, activity: Activity):
    now = datetime.now(UTC)
    first = await run_at(now, database, settings)
    activity.views(now, count=3)

    second = await run_at(now, database, settings)

    (row,) = activity.rows("SELECT payload FROM analytics_snapshots")
    assert (first["total_views"], second["total_views"]) == (0, 3)
    assert row["payload"] == second


async def test_same_message_twice_counts_once(
    consume: Consume, publisher: Publisher, runs: Runs, activity: Activity, log_lines: list[dict[str, Any]]
):
    async with consume():
        sent = await trigger.publish(publisher, QuickStats())
        row = await runs.over(sent.message_id)
        await publisher.publish(message_of(sent, {}), exchange=sent.exchange, routing_key=sent.routing_key)
        await eventually(lambda: is_duplicate_logged(log_lines))

    assert await runs.of(sent.message_id) == [row]
    assert len(activity.rows("SELECT * FROM analytics_snapshots")) == 1


async def is_duplicate_logged(log_lines: list[dict[str, Any]]) -> bool:
    return any(line.get("outcome") == "duplicate" for line in log_lines)


async def test_empty_platform_has_zeros(deliver: Deliver, activity: Activity):
    activity.run("DELETE FROM add_accounts; DELETE FROM auth_user")

    row = await deliver(QuickStats())

    assert row["status"] == "succeeded"
    assert {key: row["statistics"][key] for key in CONTRACT} == dict.fromkeys(CONTRACT, 0)


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        ("2026-03-29T00:00+02:00", "2026-03-30T00:00+03:00"),  # 23 hours
        ("2026-10-25T00:00+03:00", "2026-10-26T00:00+02:00"),  # 25 hours
        ("2026-06-01T00:00+03:00", "2026-06-02T00:00+03:00"),
    ],
)
async def test_today_begins_and_ends_at_midnight_in_kyiv(
    database: Database, settings: Settings, activity: Activity, begins: str, ends: str
):
    instant = timedelta(microseconds=1)
    first, after = at(begins), at(ends)
    for make in (activity.ads, activity.users, activity.views):
        make(first - instant, first, after - instant, after)

    at_dawn = await run_at(first, database, settings)
    at_night = await run_at(after - instant, database, settings)
    next_day = await run_at(after, database, settings)

    for figures_, moment in ((at_dawn, first), (at_night, after - instant), (next_day, after)):
        assert figures_ == activity.counts(today(moment))
    assert [at_night[key] for key in ("today_ads", "today_views", "new_users_today")] == [2, 2, 2]
    assert [next_day[key] for key in ("today_ads", "today_views", "new_users_today")] == [1, 1, 1]


async def test_figures_are_exact_when_most_views_are_rolled_up(
    database: Database, settings: Settings, activity: Activity
):
    now = datetime.now(UTC)
    activity.views(now - timedelta(days=2), now - timedelta(days=1), None, count=10_000)
    everything(activity, now)
    first = await run_at(now, database, settings)
    activity.views(now - timedelta(hours=2), now - timedelta(days=30), count=11_000)

    second = await run_at(now, database, settings)

    assert [number for number, _, _ in activity.view_counts()][-1] == 1
    assert first["total_views"] == 30_028
    assert second == activity.counts(today(now))


async def test_deleted_views_of_the_last_hour_are_gone_at_once(
    database: Database, settings: Settings, activity: Activity
):
    now = datetime.now(UTC)
    (deleted,) = activity.ads(now)
    activity.views(now, now - timedelta(days=1), count=9_000, ad=deleted)
    activity.views(now, count=9_000)
    before = await run_at(now, database, settings)
    activity.delete_ad(deleted)

    after = await run_at(now, database, settings)

    assert (before["total_views"], after["total_views"]) == (27_000, 9_000)
    assert after == activity.counts(today(now))


async def test_run_during_inserts_counts_one_snapshot(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    """Each writer commits an ad, a view and a user together: in any one snapshot there are as many of each."""
    monkeypatch.setattr(id_ranges, "OPEN_FOR", timedelta(seconds=2))
    activity.run("DELETE FROM add_accounts WHERE id > 1; DELETE FROM auth_user WHERE id > 1")
    (first_ad,) = activity.ads(datetime.now(UTC))
    activity.views(datetime.now(UTC), ad=first_ad)
    activity.run(f"SELECT setval(pg_get_serial_sequence('ad_views', 'id'), {id_ranges.SIZE - 300})")

    found = []
    with inserting(activity.database_url, like=first_ad):
        while len(found) < 12 or not activity.view_counts():
            found.append(await run_at(datetime.now(UTC), database, settings))
    at_rest = await run_at(datetime.now(UTC), database, settings)

    assert [figures_["total_views"] for figures_ in found] == [figures_["total_ads"] for figures_ in found]
    assert [figures_["total_users"] for figures_ in found] == [figures_["total_ads"] for figures_ in found]
    assert [figures_["today_views"] for figures_ in found] == [figures_["today_ads"] for figures_ in found]
    assert found[0]["total_views"] < found[-1]["total_views"]
    assert at_rest == activity.counts(today())


async def test_concurrent_runs_find_the_same(database: Database, settings: Settings, activity: Activity):
    now = datetime.now(UTC)
    activity.views(now, None, count=25_000)

    first, second = await asyncio.gather(
        run_at(now, database, settings), run_at(now + timedelta(seconds=1), database, settings)
    )

    assert first == second == activity.counts(today(now))
    assert len(activity.rows("SELECT * FROM analytics_snapshots")) == 2


async def test_first_roll_up_is_continued_until_it_is_complete(
    consume: Consume,
    relay: None,
    publisher: Publisher,
    runs: Runs,
    activity: Activity,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(rollup, "DAYS_AT_ONCE", 10_000)
    activity.views(datetime.now(UTC) - timedelta(days=1), count=110_000)

    async with consume(time_budget=timedelta(0)):
        first = await trigger.publish(publisher, QuickStats())

        async def end() -> list[dict[str, Any]] | None:
            rows = await runs.newest(job=JOB)
            over = rows and rows[0]["status"] != "running" and "continued_by" not in rows[0]["statistics"]
            return rows[::-1] if over else None

        rows = await eventually(end, within=30)

    assert rows[0]["message_id"] == first.message_id
    assert sum(row["statistics"]["segments_sealed"] for row in rows) == 5
    assert len([row for row in rows if row["statistics"]["segments_sealed"]]) == 3
    assert ["total_views" in row["statistics"] for row in rows] == [False] * (len(rows) - 1) + [True]
    assert rows[-1]["statistics"]["total_views"] == 110_000
    assert len(activity.rows("SELECT * FROM analytics_snapshots")) == 1


async def test_locked_table_is_retried_later(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", timedelta(milliseconds=100))

    with psycopg.connect(activity.database_url) as migration:
        migration.execute("LOCK TABLE ad_views IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(RetryLater, match="a table is locked by another session"):
            await run_at(datetime.now(UTC), database, settings)

    assert activity.rows("SELECT * FROM analytics_snapshots") == []


async def test_statement_over_its_time_limit_fails_the_attempt(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    activity.views(datetime.now(UTC), count=90_000)
    monkeypatch.setattr(transactions, "STATEMENT_TIMEOUT", timedelta(milliseconds=1))

    with pytest.raises(DBAPIError, match="canceling statement due to statement timeout"):
        await run_at(datetime.now(UTC), database, settings)


async def test_missing_table_is_reported_in_one_sentence(deliver: Deliver, activity: Activity):
    activity.run("DROP TABLE ad_views")

    row = await deliver(QuickStats())

    assert (row["status"], row["error"]) == ("failed", 'UndefinedTableError: relation "ad_views" does not exist')


async def test_job_of_a_killed_consumer_is_taken_over(
    pocketwatch: Program, publisher: Publisher, runs: Runs, activity: Activity
):
    activity.views(datetime.now(UTC) - timedelta(days=1), count=400_000)
    consumer = pocketwatch.start("consume", "analytics")
    await asyncio.to_thread(consumer.until, "consumers.started")

    sent = await trigger.publish(publisher, QuickStats())
    await eventually(lambda: begun(activity), within=20)
    consumer.kill()
    pocketwatch.start("consume", "analytics")

    row = await runs.over(sent.message_id, within=40)
    assert (row["status"], row["attempt"]) == ("succeeded", 1)
    assert row["statistics"]["total_views"] == 400_000
    assert len(activity.rows("SELECT * FROM analytics_snapshots")) == 1


async def begun(activity: Activity) -> bool:
    return bool(activity.view_counts())
