"""No job of the analytics takes a lock that a web request would feel."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from consumers.analytics.rollup import rollup
from schemas.message import Message
from schemas.ticks import CleanAnalytics, DailyReport, PlatformAnalytics, QuickStats
from tests.fixtures.activity import Activity
from tests.fixtures.suite import Deliver

TABLES = "ad_views, add_accounts, ads_carmake, ads_region, auth_user, car_ads, currency_rates"


@pytest.mark.parametrize("tick", [QuickStats(), PlatformAnalytics(), DailyReport(), CleanAnalytics()], ids=repr)
async def test_it_reads_beside_whoever_keeps_everyone_but_readers_out(
    tick: Message, deliver: Deliver, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    """Readers of rows are the only ones that this lock lets pass, and no request waits for them, whatever it does."""
    monkeypatch.setattr(rollup, "WRITERS_MAY_TAKE", 0.1)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    activity.views(yesterday, count=25_000)
    activity.ads(yesterday)
    activity.users(yesterday)

    with psycopg.connect(activity.database_url) as request:
        request.execute(f"LOCK TABLE {TABLES} IN EXCLUSIVE MODE".encode())
        row = await deliver(tick)

    assert row["status"] in ("succeeded", "partial"), row["error"]
