"""analytics.cleanup: expired snapshots are deleted from the table and from Redis."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from consumers.analytics import cleanup as job
from consumers.analytics.snapshots import PREFIX
from pocketwatch.errors import Reject
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from schemas.ticks import CleanAnalytics
from tests.fixtures.activity import Activity
from tests.fixtures.sessions import Sessions
from tests.fixtures.suite import Deliver
from tests.support.job_contexts import job_context

JOB = "analytics.cleanup"
NOTHING = dict.fromkeys(job.STATISTICS, 0)
ADD = """
INSERT INTO analytics_snapshots (kind, locale, period, payload, generated_at, expires_at)
SELECT %(kind)s, %(locale)s,
  coalesce(%(period)s, to_char(now() - make_interval(days => %(age)s), 'YYYY-MM-DD"T"HH24:MI')), '{}',
  now() - make_interval(days => %(age)s), now() + make_interval(days => %(left)s) RETURNING id
"""


@pytest.fixture
def settings(settings: Settings, redis_url: str) -> Settings:
    servers = settings.servers.model_copy(update={"redis_url": redis_url})
    return settings.model_copy(update={"servers": servers})


def add(
    activity: Activity,
    *,
    age: int,
    left: int | None,
    kind: str = "quick_stats",
    locale: str | None = None,
    period: str | None = None,
) -> int:
    """A snapshot that was made so many days ago, and expires in so many (None: never)."""
    (id_,) = activity.ids(ADD, kind=kind, locale=locale, age=age, left=left, period=period)
    return id_


def ids(activity: Activity) -> set[int]:
    return {row["id"] for row in activity.rows("SELECT id FROM analytics_snapshots")}


def cached(kind: str, *, hours: float, now: datetime | None = None) -> str:
    """The value of a key that was written so many hours ago."""
    made = (now or datetime.now(UTC)) - timedelta(hours=hours)
    return json.dumps({"kind": kind, "locale": None, "period": "p", "generated_at": made.isoformat(), "payload": {}})


async def test_expired_snapshots_are_deleted(deliver: Deliver, activity: Activity):
    add(activity, age=5, left=-3)
    add(activity, age=4, left=-2)
    kept = {add(activity, age=1, left=1), add(activity, age=3, left=None)}

    row = await deliver(CleanAnalytics())

    assert row["status"] == "succeeded"
    assert row["statistics"]["snapshots_deleted"] == 2
    assert ids(activity) == kept


async def test_newest_snapshot_of_each_kind_and_locale_is_kept(deliver: Deliver, activity: Activity):
    add(activity, age=30, left=-20)
    kept = {add(activity, age=20, left=-10)}
    add(activity, age=30, left=-20, kind="platform", locale="uk")
    kept |= {add(activity, age=20, left=-10, kind="platform", locale=locale) for locale in ("uk", "en", "ru")}

    row = await deliver(CleanAnalytics())

    assert ids(activity) == kept
    assert row["statistics"]["snapshots_deleted"] == 2
    assert row["statistics"]["snapshots_kept_as_newest"] == 4


async def test_newest_period_is_kept_when_an_older_one_was_made_later(deliver: Deliver, activity: Activity):
    newest = add(activity, age=20, left=-10, kind="daily_report", period="2026-03-28")
    add(activity, age=19, left=-10, kind="daily_report", period="2026-03-27")
    made_last = add(activity, age=18, left=-10, kind="daily_report", period="2025-01-01")

    await deliver(CleanAnalytics())

    assert ids(activity) == {newest, made_last}


async def test_later_period_of_another_locale_supersedes_nothing(deliver: Deliver, activity: Activity):
    newest = add(activity, age=20, left=-10, kind="platform", locale="en", period="2026-03-27")
    made_last = add(activity, age=19, left=-10, kind="platform", locale="en", period="2026-03-26")
    other = add(activity, age=20, left=-10, kind="platform", locale="uk", period="2026-03-28")

    await deliver(CleanAnalytics())

    assert ids(activity) == {newest, made_last, other}


async def test_run_out_of_time_is_continued(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job, "PAGE", 2)
    for age in range(5, 12):
        add(activity, age=age, left=-1)

    first = job_context(JOB, database, settings, stopping=lambda: True, message=CleanAnalytics())
    await job.clean_analytics(CleanAnalytics(), first)
    second = job_context(JOB, database, settings)
    await job.clean_analytics(CleanAnalytics(), second)

    assert first.statistics["snapshots_deleted"] == 2
    assert first.statistics["continued_by"] == f"{first.message_id}.1"
    assert second.statistics["snapshots_deleted"] == 4
    assert "continued_by" not in second.statistics


async def test_dry_run_counts_the_same_and_changes_nothing(
    database: Database, settings: Settings, activity: Activity, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job, "PAGE", 2)
    for age in range(5, 12):
        add(activity, age=age, left=-1)
    sessions.redis.set(f"{PREFIX}daily_report_2025-01-01", "old")
    sessions.redis.set(f"{PREFIX}platform", cached("platform", hours=1))
    before, keys = ids(activity), sessions.everything()

    tick = CleanAnalytics(dry_run=True)
    dry, real = job_context(JOB, database, settings, message=tick), job_context(JOB, database, settings)
    await job.clean_analytics(tick, dry)
    unchanged = ids(activity) == before and sessions.everything() == keys
    await job.clean_analytics(CleanAnalytics(), real)

    assert unchanged
    assert dry.statistics == real.statistics
    assert real.statistics == NOTHING | {
        "snapshots_deleted": 6,
        "snapshots_kept_as_newest": 1,
        "cache_keys_scanned": 2,
        "cache_keys_deleted": 1,
        "cache_keys_given_an_end": 1,
    }


async def test_outdated_keys_without_a_ttl_are_deleted_and_current_ones_get_one(
    database: Database, settings: Settings, activity: Activity, sessions: Sessions
):
    current, old = f"{PREFIX}quick_stats", f"{PREFIX}platform:uk"
    sessions.redis.set(current, cached("quick_stats", hours=0.5))
    sessions.redis.set(old, cached("platform", hours=5))
    sessions.redis.set(f"{PREFIX}daily_report_2025-01-01", "{not json")
    sessions.redis.rpush(f"{PREFIX}a_list", "x")

    one = job_context(JOB, database, settings)
    await job.clean_analytics(CleanAnalytics(), one)

    assert sessions.keys() == {current.encode()}
    assert 1700 < sessions.redis.ttl(current) <= 1800
    assert one.statistics["cache_keys_deleted"] == 3


async def test_key_with_a_ttl_is_kept_unless_outdated(
    database: Database, settings: Settings, activity: Activity, sessions: Sessions
):
    sessions.redis.set(f"{PREFIX}quick_stats", cached("quick_stats", hours=0.5), ex=100)
    sessions.redis.set(f"{PREFIX}foreign", "a value", ex=100)
    sessions.redis.set(f"{PREFIX}platform:en", cached("platform", hours=9), ex=100_000)

    await job.clean_analytics(CleanAnalytics(), job_context(JOB, database, settings))

    assert sessions.keys() == {f"{PREFIX}quick_stats".encode(), f"{PREFIX}foreign".encode()}


async def test_keys_with_other_prefixes_are_never_touched(
    database: Database, settings: Settings, activity: Activity, sessions: Sessions
):
    for key in ("pocketwatch:other", "analytics:quick_stats", "user:session:1", "pocketwatch:analytic"):
        sessions.redis.set(key, cached("quick_stats", hours=500))
    before = sessions.everything()

    await job.clean_analytics(CleanAnalytics(), job_context(JOB, database, settings))

    assert sessions.everything() == before


async def test_roll_ups_are_never_deleted(deliver: Deliver, activity: Activity):
    activity.run("INSERT INTO daily_activity (day, views, new_ads, new_users) VALUES ('2001-01-01', 1, 2, 3)")
    activity.run("INSERT INTO view_counts VALUES (0, '2001-01-01', 5)")

    await deliver(CleanAnalytics())

    assert len(activity.rows("SELECT * FROM daily_activity")) == 1
    assert activity.view_counts() == [(0, "2001-01-01", 5)]


async def test_second_run_finds_nothing(deliver: Deliver, activity: Activity):
    add(activity, age=5, left=-3)
    add(activity, age=1, left=1)

    first, second = await deliver(CleanAnalytics()), await deliver(CleanAnalytics())

    assert [row["statistics"]["snapshots_deleted"] for row in (first, second)] == [1, 0]


async def test_unreachable_redis_makes_the_run_partial_and_rows_are_deleted(
    database: Database, settings: Settings, activity: Activity
):
    add(activity, age=5, left=-3)
    kept = add(activity, age=1, left=1)
    servers = settings.servers.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})

    one = job_context(JOB, database, settings.model_copy(update={"servers": servers}))
    await job.clean_analytics(CleanAnalytics(), one)

    assert one.status == "partial"
    assert one.reason
    assert one.reason.startswith("cache: not cleaned; Redis at 127.0.0.1:1/0 does not answer")
    assert ids(activity) == {kept}


async def test_without_redis_only_the_table_is_cleaned(database: Database, settings: Settings, activity: Activity):
    add(activity, age=5, left=-3)
    kept = add(activity, age=1, left=1)
    servers = settings.servers.model_copy(update={"redis_url": None})

    one = job_context(JOB, database, settings.model_copy(update={"servers": servers}))
    await job.clean_analytics(CleanAnalytics(), one)

    assert (one.status, ids(activity)) == ("succeeded", {kept})


async def test_clock_skew_deletes_nothing(database: Database, settings: Settings, activity: Activity):
    expired = {add(activity, age=5, left=-3), add(activity, age=1, left=1)}

    with pytest.raises(Reject, match="nothing was changed, set the clocks"):
        await job.clean_analytics(
            CleanAnalytics(), job_context(JOB, database, settings, now=datetime.now(UTC) + timedelta(hours=2))
        )

    assert ids(activity) == expired
