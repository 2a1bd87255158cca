"""POCKETWATCH_DJANGO_CACHE: the site's API answers with the suite's figures, from its own cache."""

import asyncio
import pickletools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from consumers.analytics import checks, cleanup, django_cache, quick_stats
from consumers.analytics.report import daily_report
from pocketwatch.errors import ServerUnreachable
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import JobContext
from schemas.message import Tick
from schemas.ticks import CleanAnalytics, DailyReport, QuickStats
from tests.fixtures.activity import ZONE, Activity
from tests.fixtures.sessions import Sessions
from tests.fixtures.site import Site
from tests.support.job_contexts import job_context
from tests.support.waiting import eventually

DAY = timedelta(days=1)
QUICK, REPORT = "autoria:1:quick_stats", "autoria:1:latest_daily_report"
NOWHERE = "redis://127.0.0.1:1/0"
HANDLERS: dict[type[Tick], Callable[..., Any]] = {
    QuickStats: quick_stats.quick_stats,
    DailyReport: daily_report.report_day,
    CleanAnalytics: cleanup.clean_analytics,
}
# What a pickle needs to name or call anything.
CODE = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD", "PERSID", "BINPERSID"}


@pytest.fixture
def environment(environment: dict[str, str], redis_url: str) -> dict[str, str]:
    """Both caches are in the database of Redis that the site's cache is in, as on the deployed site."""
    return environment | {"REDIS_URL": redis_url, "POCKETWATCH_DJANGO_CACHE": f"{redis_url}?prefix=autoria&version=1"}


class Jobs:
    def __init__(self, database: Database, settings: Settings) -> None:
        self.database, self.settings = database, settings

    async def run(self, tick: Tick, **servers: str | None) -> JobContext:
        """Run a job, with other servers than those of the environment."""
        changed = self.settings.servers.model_copy(update=servers)
        settings = self.settings.model_copy(update={"servers": changed})
        job = job_context(tick.routing_key, self.database, settings, message=tick)
        async with job.session:
            await HANDLERS[type(tick)](tick, job)
            await job.session.commit()
        return job


@pytest.fixture
def jobs(database: Database, settings: Settings, sessions: Sessions, activity: Activity) -> Jobs:
    return Jobs(database, settings)


def yesterday() -> date:
    return datetime.now(ZoneInfo(ZONE)).date() - DAY


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(ZONE))


def something_on(day: date, activity: Activity) -> None:
    """More on the day than on the one before."""
    for moment, count in ((noon(day), 5), (noon(day - DAY), 4)):
        activity.ads(*[moment] * count)
        activity.ads(moment, status="sold")
        activity.users(*[moment] * (count + 2))
        activity.views(moment, count=10 * count)


def snapshot(activity: Activity, kind: str) -> dict[str, Any]:
    """The newest; of a report, the one in English."""
    return activity.rows(
        "SELECT payload, generated_at FROM analytics_snapshots WHERE kind = %(kind)s "
        "AND coalesce(locale, 'en') = 'en' ORDER BY period DESC LIMIT 1",
        kind=kind,
    )[0]


async def test_site_answers_with_the_quick_stats_of_its_cache(
    jobs: Jobs, site: Site, activity: Activity, sessions: Sessions
):
    something_on(datetime.now(ZoneInfo(ZONE)).date(), activity)
    computed = site.call("ads.quick_stats")
    sessions.redis.flushdb()

    job = await jobs.run(QuickStats())
    answer = site.call("ads.quick_stats")

    stored = snapshot(activity, "quick_stats")
    assert (computed["source"], answer["source"]) == ("computed", "cache")
    assert answer["data"] == stored["payload"] | {"generated_at": stored["generated_at"].astimezone(UTC).isoformat()}
    assert answer["data"].keys() >= computed["data"].keys()
    assert answer["data"]["total_views"] == computed["data"]["total_views"] == 90
    assert 3500 < sessions.redis.ttl(QUICK) <= 3600
    assert (job.statistics["cached"], job.statistics["django_cached"]) == (True, True)


async def test_site_answers_with_the_daily_report_of_its_cache(
    jobs: Jobs, site: Site, activity: Activity, sessions: Sessions
):
    day = yesterday()
    something_on(day, activity)

    job = await jobs.run(DailyReport())
    answer = site.call("ads.daily_report", day=str(day))

    stored = snapshot(activity, "daily_report")
    figures = {figure["name"]: figure for figure in stored["payload"]["figures"]}
    report = answer["data"]
    assert (answer["source"], report["date"]) == ("cache", str(day))
    assert report["ads_created"] == figures["new_ads"]["value"] == 6
    assert report["users_registered"] == figures["new_users"]["value"] == 7
    assert report["total_views"] == figures["views"]["value"] == 50
    assert report["metrics"] == {
        "new_ads": {"today": 6, "yesterday": 5, "change": 1, "change_percent": 20.0},
        "new_users": {"today": 7, "yesterday": 6, "change": 1, "change_percent": 16.7},
        "total_views": {"today": 50, "yesterday": 40, "change": 10, "change_percent": 25.0},
    }
    assert datetime.fromisoformat(report["generated_at"]) <= stored["generated_at"] + timedelta(seconds=9)
    assert 48 * 3600 < sessions.redis.ttl(REPORT) <= 49 * 3600
    assert job.statistics["django_cached"] is True


async def test_report_has_the_fields_that_the_site_computes_with_their_values(
    jobs: Jobs, site: Site, activity: Activity, sessions: Sessions
):
    day = yesterday() - 3 * DAY
    something_on(day, activity)
    computed = site.call("ads.daily_report", day=str(day))
    sessions.redis.flushdb()

    await jobs.run(DailyReport(day=day))
    cached = site.call("ads.daily_report", day=str(day))

    assert (computed["source"], cached["source"]) == ("computed", "cache")
    assert computed["data"]["ads_activated"] == 5
    assert [make["count"] for make in computed["data"]["top_categories"]] == [6]
    own = {"generated_at": cached["data"]["generated_at"], "source": "pocketwatch"}
    assert {name: cached["data"][name] for name in computed["data"]} == computed["data"] | own


async def test_unknown_figures_are_null_and_growth_from_nothing_is_100_percent(
    jobs: Jobs, site: Site, activity: Activity
):
    activity.views(noon(yesterday()), count=3)
    await jobs.run(DailyReport(day=date(2001, 2, 3)))
    before_all_data = site.call("ads.daily_report", day="2001-02-03")["data"]

    await jobs.run(DailyReport())
    with_data = site.call("ads.daily_report", day=str(yesterday()))["data"]

    assert before_all_data["metrics"]["new_ads"] == dict.fromkeys(
        ("today", "yesterday", "change", "change_percent"), None
    )
    assert before_all_data["total_views"] is None
    assert with_data["metrics"]["total_views"] == {"today": 3, "yesterday": 0, "change": 3, "change_percent": 100}
    assert with_data["metrics"]["new_ads"] == {"today": 0, "yesterday": 0, "change": 0, "change_percent": 0}


async def test_site_needs_no_class_to_read_what_is_written(jobs: Jobs, activity: Activity, sessions: Sessions):
    something_on(yesterday(), activity)

    await jobs.run(QuickStats())
    await jobs.run(DailyReport())

    for key in (QUICK, REPORT):
        opcodes = [
            (opcode.name, argument) for opcode, argument, _ in pickletools.genops(sessions.redis.get(key) or b"")
        ]
        assert opcodes[0] == ("PROTO", 4)
        assert CODE.isdisjoint(name for name, _ in opcodes)


async def test_report_of_an_earlier_day_does_not_replace_a_later_one(
    jobs: Jobs, site: Site, activity: Activity, sessions: Sessions
):
    something_on(yesterday(), activity)
    await jobs.run(DailyReport())

    earlier = await jobs.run(DailyReport(day=yesterday() - DAY))
    kept = site.call("ads.daily_report", day=str(yesterday()))
    sessions.redis.flushdb()
    again = await jobs.run(DailyReport(day=yesterday() - DAY))

    assert kept["source"] == "cache"
    assert [each.statistics["django_cached"] for each in (earlier, again)] == [False, False]
    assert not sessions.redis.exists(REPORT)


@pytest.mark.parametrize("tick", [QuickStats(), DailyReport()], ids=repr)
@pytest.mark.parametrize("down", ["redis_url", "django_cache"])
async def test_cache_that_is_down_fails_neither_the_run_nor_the_other_cache(
    jobs: Jobs, activity: Activity, log_lines: list[dict[str, Any]], tick: Tick, down: str
):
    activity.views(noon(yesterday()))

    job = await jobs.run(tick, **{down: NOWHERE})

    assert job.status in {"succeeded", "partial"}
    assert job.statistics["cached"] is (down != "redis_url")
    assert job.statistics["django_cached"] is (down != "django_cache")
    events = {line["event"] for line in log_lines if line["event"].endswith("cache_failed")}
    assert events == {"analytics.cache_failed" if down == "redis_url" else "analytics.django_cache_failed"}


async def test_database_of_redis_that_does_not_exist_fails_no_run(
    jobs: Jobs, redis_url: str, log_lines: list[dict[str, Any]]
):
    missing = redis_url.rpartition("/")[0] + "/99"

    job = await jobs.run(QuickStats(), redis_url=missing, django_cache=missing)

    assert (job.status, job.statistics["cached"], job.statistics["django_cached"]) == ("succeeded", False, False)
    errors = [line["error"] for line in log_lines if line["event"].endswith("cache_failed")]
    assert [error.partition(" names database 99 of ")[0] for error in errors] == [
        "REDIS_URL",
        "POCKETWATCH_DJANGO_CACHE",
    ]


async def test_replica_fails_no_run_and_the_right_setting_is_named(
    jobs: Jobs, sessions: Sessions, log_lines: list[dict[str, Any]]
):
    sessions.redis.replicaof("127.0.0.1", "1")
    try:
        job = await jobs.run(QuickStats(), redis_url=None)
    finally:
        sessions.redis.replicaof("NO", "ONE")

    assert (job.status, job.statistics["django_cached"]) == ("succeeded", False)
    (error,) = [line["error"] for line in log_lines if line["event"] == "analytics.django_cache_failed"]
    assert error.endswith("is a read-only replica; set POCKETWATCH_DJANGO_CACHE to the primary")


async def test_without_the_setting_nothing_of_the_site_is_written(jobs: Jobs, sessions: Sessions):
    one, other = await jobs.run(QuickStats(), django_cache=None), await jobs.run(DailyReport(), django_cache=None)

    assert "django_cached" not in one.statistics | other.statistics
    assert not sessions.redis.exists(QUICK, REPORT)


async def test_site_s_cache_alone_is_enough(jobs: Jobs, site: Site):
    job = await jobs.run(QuickStats(), redis_url=None)

    assert (job.statistics["cached"], job.statistics["django_cached"]) == (False, True)
    assert site.call("ads.quick_stats")["source"] == "cache"


def age(activity: Activity, hours: float) -> None:
    activity.run(
        "UPDATE analytics_snapshots SET generated_at = generated_at - make_interval(mins => %(m)s)", m=int(60 * hours)
    )


async def test_clean_up_deletes_outdated_keys_and_gives_current_ones_an_end(
    jobs: Jobs, activity: Activity, sessions: Sessions
):
    await jobs.run(QuickStats(), redis_url=None)
    await jobs.run(DailyReport(), redis_url=None)
    age(activity, 2)
    sessions.redis.persist(REPORT)

    job = await jobs.run(CleanAnalytics(), redis_url=None)

    assert sessions.keys() == {REPORT.encode()}
    assert 46.9 * 3600 < sessions.redis.ttl(REPORT) <= 47 * 3600
    assert [job.statistics[f"cache_keys_{what}"] for what in ("scanned", "deleted", "given_an_end")] == [2, 1, 1]


async def test_clean_up_leaves_current_keys_with_an_end(jobs: Jobs, site: Site, sessions: Sessions):
    await jobs.run(QuickStats())
    sessions.redis.expire(QUICK, 100)

    job = await jobs.run(CleanAnalytics())

    assert 90 < sessions.redis.ttl(QUICK) <= 100
    assert site.call("ads.quick_stats")["source"] == "cache"
    assert job.statistics["cache_keys_deleted"] == job.statistics["cache_keys_given_an_end"] == 0


async def test_clean_up_touches_nothing_else_of_the_site_s_cache(jobs: Jobs, site: Site, sessions: Sessions):
    site.call("ads.remember", key="quick_stats", version=2)
    for key in ("autoria_rl:1:quick_stats", ":1:latest_daily_report", "quick_stats", "autoria:1:platform_analytics_uk"):
        sessions.redis.set(key, "kept")
    before = sessions.everything()
    sessions.redis.set(REPORT, "outdated, because no snapshot exists")

    await jobs.run(CleanAnalytics())

    assert sessions.everything() == before
    assert b"autoria:2:quick_stats" in before


async def test_dry_run_counts_the_same_and_changes_nothing(jobs: Jobs, activity: Activity, sessions: Sessions):
    await jobs.run(QuickStats())
    await jobs.run(DailyReport())
    age(activity, 2)
    sessions.redis.persist(REPORT)
    before = sessions.everything()

    dry = await jobs.run(CleanAnalytics(dry_run=True))
    unchanged = sessions.everything() == before
    real = await jobs.run(CleanAnalytics())

    assert unchanged
    assert dry.statistics == real.statistics
    assert real.statistics["cache_keys_deleted"] == 1


async def test_key_that_is_renewed_during_the_clean_up_is_kept(jobs: Jobs, activity: Activity, sessions: Sessions):
    sessions.redis.set(QUICK, "without an end, and outdated")
    job = job_context("analytics.cleanup", jobs.database, jobs.settings)
    job.start(*cleanup.STATISTICS)

    with locked("analytics_snapshots", activity) as is_awaited:
        cleaning = asyncio.create_task(django_cache.clean(job))
        await eventually(is_awaited)
        sessions.redis.set(QUICK, "renewed", ex=3600)
    await cleaning

    assert sessions.redis.get(QUICK) == b"renewed"
    assert (job.statistics["cache_keys_scanned"], job.statistics["cache_keys_deleted"]) == (1, 0)
    await job.session.close()


@contextmanager
def locked(table: str, activity: Activity) -> Iterator[Callable[[], Any]]:
    """Lock a table; yields a function that says whether another session waits for it."""

    async def is_awaited() -> bool:
        return bool(activity.rows("SELECT 1 FROM pg_locks WHERE NOT granted"))

    with psycopg.connect(activity.database_url) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield is_awaited


@pytest.mark.parametrize("both", [False, True])
async def test_clean_up_names_each_cache_that_it_could_not_clean(jobs: Jobs, *, both: bool):
    job = await jobs.run(CleanAnalytics(), django_cache=NOWHERE, **({"redis_url": NOWHERE} if both else {}))

    assert job.status == "partial"
    assert job.reason
    parts = [part.partition(";")[0] for part in job.reason.split("; ") if "not cleaned" in part]
    assert parts == (["cache: not cleaned"] if both else []) + ["Django's cache: not cleaned"]
    assert job.reason.count("Redis at 127.0.0.1:1/0 does not answer") == 1 + both


async def test_documented_rights_suffice_and_do_not_include_reading(
    jobs: Jobs, activity: Activity, sessions: Sessions, redis_url: str
):
    address = redis_url.rpartition("@")[2]
    rights = "~autoria:1:quick_stats ~autoria:1:latest_daily_report -@all +@connection +set +pttl +eval +unlink +expire"
    sessions.redis.execute_command("ACL", "SETUSER", "writer", "on", ">pw", "resetkeys", *rights.split())
    limited = f"redis://writer:pw@{address}?prefix=autoria"
    try:
        stats = await jobs.run(QuickStats(), django_cache=limited)
        report = await jobs.run(DailyReport(), django_cache=limited)
        age(activity, 2)
        sessions.redis.persist(REPORT)
        cleaned = await jobs.run(CleanAnalytics(), redis_url=None, django_cache=limited)
        with pytest.raises(ServerUnreachable, match=r"refuses the login: .*get"):
            async with django_cache.opened(limited) as (client, _):
                await client.get(REPORT)
    finally:
        sessions.redis.execute_command("ACL", "DELUSER", "writer")

    assert stats.statistics["django_cached"] is report.statistics["django_cached"] is True
    assert cleaned.reason is None
    assert (cleaned.statistics["cache_keys_deleted"], cleaned.statistics["cache_keys_given_an_end"]) == (1, 1)


async def finding(settings: Settings, url: str) -> tuple[str, str]:
    """What `doctor` says about a cache."""
    servers = settings.servers.model_copy(update={"django_cache": url})
    found = [each async for each in checks.check(settings.model_copy(update={"servers": servers}))]
    (one,) = [each for each in found if each.subject == "Django's cache"]
    assert "hush" not in one.detail
    return one.result, one.detail


async def test_doctor_looks_whether_the_site_uses_this_prefix(
    settings: Settings, site: Site, sessions: Sessions, redis_url: str
):
    address, remedy = redis_url.rpartition("@")[2], checks.PREFIX_REMEDY
    sessions.redis.set(QUICK, "the suite's own")
    alone = await finding(settings, f"{redis_url}?prefix=autoria")
    site.call("ads.remember", key="a session")

    assert alone == ("warning", f"{address} answers, but no key of the site was found, autoria:1:*; {remedy}")
    assert remedy.startswith("compare KEY_PREFIX and VERSION of the site's CACHES with prefix and version of POCKET")
    assert await finding(settings, f"{redis_url}?prefix=autoria") == (
        "ok",
        f"{address} has keys of the site, autoria:1:*",
    )
    assert (await finding(settings, f"{redis_url}?prefix=autori*"))[0] == "warning"


async def test_doctor_names_what_is_wrong_with_the_site_s_cache(settings: Settings, redis_url: str):
    address = redis_url.rpartition("@")[2]

    refused = await finding(settings, f"redis://:hush@{address}")
    down = await finding(settings, "redis://:hush@127.0.0.1:1/0?prefix=autoria")
    missing = await finding(settings, redis_url.rpartition("/")[0] + "/99")

    assert [result for result, _ in (refused, down, missing)] == ["problem"] * 3
    assert f"Redis at {address} refuses the login" in refused[1]
    assert "Redis at 127.0.0.1:1/0 does not answer" in down[1]
    assert missing[1].startswith("POCKETWATCH_DJANGO_CACHE names database 99 of ")
