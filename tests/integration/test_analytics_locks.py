"""Analytics jobs take no lock that blocks a web request."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from schemas.message import Message
from schemas.ticks import CleanAnalytics, DailyReport, PlatformAnalytics, QuickStats
from tests.fixtures.activity import Activity
from tests.fixtures.suite import Deliver

TABLES = "ad_views, add_accounts, ads_carmake, ads_region, auth_user, car_ads, currency_rates"


@pytest.mark.parametrize("tick", [QuickStats(), PlatformAnalytics(), DailyReport(), CleanAnalytics()], ids=repr)
async def test_job_only_reads_platform_tables(tick: Message, deliver: Deliver, activity: Activity):
    """The lock lets only plain reads pass, which block no request."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    activity.views(yesterday, count=25_000)
    activity.ads(yesterday)
    activity.users(yesterday)

    with psycopg.connect(activity.database_url) as request:
        request.execute(f"LOCK TABLE {TABLES} IN EXCLUSIVE MODE".encode())
        row = await deliver(tick)

    assert row["status"] in ("succeeded", "partial"), row["error"]
