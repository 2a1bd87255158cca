"""analytics.quick_stats: every figure against a plain count of the rows, all of one moment."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers.analytics import quick_stats as job
from consumers.analytics import rollup, snapshots
from consumers.analytics.quick_stats import Figures, day_of
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.work import Transaction
from schemas.ticks import QuickStats
from tests.fixtures.activity import ZONE, Activity
from tests.fixtures.sessions import Sessions
from tests.fixtures.suite import Deliver
from tests.support.alone import transaction

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
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many segments of few rows, which is what a site has after years."""
    monkeypatch.setattr(rollup, "COUNTED_AT_ONCE", 2)
    monkeypatch.setattr(rollup, "COMPARED_AT_ONCE", 2)


async def run_at(moment: datetime, database: Database, settings: Settings) -> dict[str, Any]:
    """What the job finds at this moment."""
    work = transaction(JOB, database, settings, now=moment)
    async with work.session:
        await job.quick_stats(QuickStats(), work)
        await work.session.commit()
    return figures(work)


def figures(work: Transaction) -> dict[str, Any]:
    return {key: work.statistics[key] for key in CONTRACT}


def today(moment: datetime | None = None) -> Any:
    return day_of(moment or datetime.now(UTC), ZONE)


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


def test_the_keys_are_those_that_readers_rely_on():
    assert KEYS == CONTRACT


async def test_each_figure_is_that_of_a_plain_count(deliver: Deliver, activity: Activity):
    everything(activity, datetime.now(UTC))

    row = await deliver(QuickStats())

    assert row["status"] == "succeeded"
    counted = activity.counts(today())
    assert {key: row["statistics"][key] for key in CONTRACT} == counted
    assert all(count > 0 for count in counted.values())
    assert counted["premium_accounts"] == 2


async def test_the_result_is_a_row_a_key_of_redis_and_a_fact(deliver: Deliver, activity: Activity, sessions: Sessions):
    everything(activity, datetime.now(UTC))
    cache = snapshots.key_of("quick_stats", None)

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
    assert cache == "pocketwatch:analytics:quick_stats"
