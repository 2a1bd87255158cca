"""The privileges of the group are sufficient for its jobs and commands."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import psycopg
import pytest

from console.grants import message_types_of, privileges_of
from consumers.analytics import cleanup, quick_stats
from consumers.analytics.overview import overview
from consumers.analytics.report import daily_report
from consumers.analytics.rollup import rollup
from consumers.analytics.rollup.verify import verify
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.privileges import statements
from schemas.ticks import CleanAnalytics, DailyReport, PlatformAnalytics, QuickStats
from tests.fixtures.activity import Activity
from tests.support.job_contexts import job_context


@pytest.fixture
async def limited(database_url: str, activity: Activity) -> AsyncIterator[Database]:
    """Connect as a user with exactly these privileges."""
    role = f"suite_{uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in statements(role, privileges_of(["analytics"]), message_types_of(["analytics"])):
            connection.execute(statement.encode())
        connection.execute(f"ALTER ROLE {role} PASSWORD 'x'".encode())
    opened = Database(f"postgresql://{role}:x@{database_url.rpartition('@')[2]}")
    yield opened
    await opened.close()
    with psycopg.connect(database_url) as connection:
        connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


async def test_listed_privileges_suffice_for_every_job_and_command(
    limited: Database, settings: Settings, activity: Activity
):
    servers = settings.servers.model_copy(update={"django_cache": settings.servers.redis_url})
    settings = settings.model_copy(update={"servers": servers})
    yesterday = datetime.now(UTC) - timedelta(days=1)
    activity.views(yesterday, count=50_000)
    (reader,) = activity.users(yesterday)
    activity.run("UPDATE auth_user SET is_staff = true WHERE id = %(id)s", id=reader)
    activity.run(
        "INSERT INTO moderation_manager_notification_settings (manager_id, email_enabled, info_table_enabled, "
        "email_address, notify_for_actions, is_active, created_at, updated_at) "
        "VALUES (%(id)s, true, true, '', '[]', true, now(), now())",
        id=reader,
    )
    activity.run(
        "INSERT INTO analytics_snapshots (kind, period, payload, generated_at, expires_at) "
        "VALUES ('quick_stats', '2026-01-01', '{}', '2026-01-01', '2026-01-03')"
    )

    for handler, tick in (
        (quick_stats.quick_stats, QuickStats()),
        (overview.build_overview, PlatformAnalytics()),
        (daily_report.report_day, DailyReport()),
        (cleanup.clean_analytics, CleanAnalytics()),
    ):
        work = job_context(tick.routing_key, limited, settings)
        async with work.session:
            await handler(tick, work)  # type: ignore[operator]
            await work.session.commit()
    await rollup.rebuild(limited, settings, progress=ignored)
    found = await verify(limited, settings)

    assert (found.id_ranges, found.differences) == (2, [])
    assert activity.rows("SELECT 1 FROM analytics_snapshots WHERE period = '2026-01-01'") == []
    assert len(activity.rows("SELECT 1 FROM moderation_notification_logs WHERE letter = 'daily_report'")) == 1


async def ignored(_: float, **__: int) -> None:
    """Show no progress."""
