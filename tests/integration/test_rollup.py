"""The roll-ups equal plain counts of the rows: with late rows, deleted rows and concurrent runs."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from consumers.analytics import queries
from consumers.analytics.rollup import daily_activity, id_ranges, rollup
from consumers.analytics.rollup.id_ranges import OPEN_FOR, SIZE
from consumers.analytics.rollup.verify import Difference, verify
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import JobContext
from schemas.ticks import PurgeLogs
from tests.fixtures.activity import OPENED, ZONE, Activity, at
from tests.fixtures.suite import Deliver
from tests.support.job_contexts import job_context

JOB = "analytics.quick_stats"
NOTHING = dict.fromkeys(rollup.STATISTICS, 0)
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)


async def run(database: Database, settings: Settings, *, now: datetime | None = None) -> JobContext:
    """Bring the roll-ups up to date; what was done is in the statistics."""
    job = job_context(JOB, database, settings, now=now)
    assert await rollup.bring_up_to_date(job)
    return job


async def ignored(_: float, **__: int) -> None:
    """Show no progress."""


@pytest.fixture
def refresh_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do on each run what is done once an hour and once a day."""
    monkeypatch.setattr(rollup, "REFRESH_EVERY", timedelta(0))
    monkeypatch.setattr(rollup, "RECOUNT_EVERY", timedelta(0))


def skip_to(activity: Activity, id_: int) -> None:
    """Give the next view this id."""
    activity.run("SELECT setval(pg_get_serial_sequence('ad_views', 'id'), %(id)s, false)", id=id_)


def counted_ranges(activity: Activity, *, before: int) -> list[tuple[int, str, int]]:
    """Count the views below this range plainly, by range and day."""
    rows = activity.rows(
        f"SELECT id / {SIZE} AS segment, coalesce((created_at AT TIME ZONE '{ZONE}')::date::text, '-infinity') "
        "AS day, count(*) AS views FROM ad_views WHERE id < %(before)s GROUP BY 1, 2 ORDER BY 1, 2",
        before=before * SIZE,
    )
    return [(row["segment"], row["day"], row["views"]) for row in rows]


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 10, tzinfo=UTC)


def yesterday() -> date:
    return daily_activity.last_closed(datetime.now(UTC), ZONE)


def fill_ranges(activity: Activity, count: int, *, day: date = SPRING) -> None:
    """Fill so many ranges with a few views each, and add a view after them."""
    for number in range(count):
        skip_to(activity, number * SIZE + SIZE - 5)
        activity.views(noon(day), noon(day - timedelta(days=1)), None, count=1)
    skip_to(activity, count * SIZE + 3)
    activity.views(noon(day))


async def test_closed_ranges_are_counted_once_and_the_open_one_is_not(
    database: Database, settings: Settings, activity: Activity
):
    fill_ranges(activity, 3)

    first, second = await run(database, settings), await run(database, settings)

    assert activity.view_counts() == counted_ranges(activity, before=3)
    assert len(activity.view_counts()) == 9
    assert (first.statistics["segments_sealed"], second.statistics["segments_sealed"]) == (3, 0)


async def test_range_is_not_counted_before_its_last_id_is_taken(
    database: Database, settings: Settings, activity: Activity
):
    skip_to(activity, SIZE - 1)
    activity.views(noon(SPRING))
    await run(database, settings)
    before = activity.view_counts()
    activity.views(noon(SPRING))

    await run(database, settings)

    assert before == []
    assert activity.view_counts() == [(0, "2026-03-29", 1)]


async def test_range_stays_open_until_the_views_after_it_are_an_hour_old(
    database: Database, settings: Settings, activity: Activity
):
    now = datetime.now(UTC)
    skip_to(activity, SIZE - 1)
    activity.views(noon(SPRING), now)

    before = await run(database, settings, now=now + OPEN_FOR)
    after = await run(database, settings, now=now + OPEN_FOR + timedelta(seconds=1))

    assert [job.statistics["segments_sealed"] for job in (before, after)] == [0, 1]
    assert activity.view_counts() == [(0, "2026-03-29", 1)]


async def test_one_backdated_view_does_not_close_a_range(database: Database, settings: Settings, activity: Activity):
    skip_to(activity, SIZE)
    activity.views(noon(SPRING), *[datetime.now(UTC)] * 3)

    await run(database, settings)

    assert activity.view_counts() == []


async def test_view_committed_late_with_a_lower_id_is_counted_by_the_next_run(
    database: Database, settings: Settings, activity: Activity
):
    now = datetime.now(UTC)
    (ad,) = activity.ads(noon(SPRING))
    skip_to(activity, SIZE - 2)
    activity.views(now, ad=ad)
    insert = "INSERT INTO ad_views (created_at, ip_address, ad_id) VALUES (%s, '192.0.2.1', %s) RETURNING id"

    with psycopg.connect(activity.database_url) as late:
        (low,) = late.execute(insert, (noon(SPRING), ad)).fetchone() or ()
        (high,) = activity.views(now, now, ad=ad)[1:]
        await run(database, settings)
        while_open = activity.view_counts(), await views_in(database)
    await run(database, settings)
    after_commit = await views_in(database)
    await run(database, settings, now=now + 2 * OPEN_FOR)

    assert low < SIZE <= high
    assert while_open == ([], 3)
    assert after_commit == 4
    assert activity.view_counts() == counted_ranges(activity, before=1)
    assert await views_in(database) == 4


async def views_in(database: Database) -> int:
    """Return the total that readers see."""
    async with database.begin() as connection:
        return (await queries.views_by_day(connection, zone=ZONE)).total()


@pytest.mark.usefixtures("refresh_always")
async def test_view_committed_after_its_range_was_counted_is_found_by_the_rolling_recount(
    database: Database, settings: Settings, activity: Activity
):
    skip_to(activity, SIZE - 2)
    activity.views(noon(SPRING), count=3)
    await run(database, settings)
    activity.run(
        "INSERT INTO ad_views (id, created_at, ip_address, ad_id) SELECT 7, created_at, ip_address, ad_id "
        "FROM ad_views LIMIT 1"
    )
    before = await views_in(database)

    job = await run(database, settings)

    assert (before, await views_in(database)) == (3, 4)
    assert job.statistics["segments_corrected"] == 1
    assert activity.rolled_up(SPRING, SPRING) == activity.days(SPRING, SPRING)


async def test_id_chosen_by_hand_does_not_close_ranges_that_the_sequence_has_not_reached(
    database: Database, settings: Settings, activity: Activity
):
    activity.views(noon(SPRING))
    activity.run(
        "INSERT INTO ad_views (id, created_at, ip_address, ad_id) SELECT 900000000000, now(), '192.0.2.1', min(id) "
        "FROM car_ads"
    )

    await run(database, settings)

    assert activity.view_counts() == []


@pytest.mark.usefixtures("refresh_always")
async def test_deleted_views_leave_the_roll_ups_with_the_rolling_recount(
    database: Database, settings: Settings, activity: Activity
):
    deleted, kept = activity.ads(noon(SPRING), noon(SPRING))
    for number in range(5):
        skip_to(activity, number * SIZE + SIZE - 9)
        activity.views(noon(SPRING), noon(AUTUMN), count=2, ad=kept if number % 2 else deleted)
        activity.views(noon(SPRING), ad=kept)
    skip_to(activity, 5 * SIZE + 1)
    activity.views(noon(SPRING), ad=kept)
    await run(database, settings)
    activity.delete_ad(deleted)

    job = await run(database, settings)

    assert job.statistics["segments_corrected"] == 3
    assert activity.view_counts() == counted_ranges(activity, before=5)
    assert activity.rolled_up(SPRING, SPRING)[0]["views"] == activity.days(SPRING, SPRING)[0]["views"] == 10


async def test_closed_ranges_are_trusted_for_an_hour(database: Database, settings: Settings, activity: Activity):
    fill_ranges(activity, 3)
    await run(database, settings)
    activity.run("DELETE FROM ad_views WHERE id < %(until)s", until=SIZE)

    within = await run(database, settings)
    later = await run(database, settings, now=datetime.now(UTC) + timedelta(hours=1, seconds=1))

    assert [job.statistics["segments_corrected"] for job in (within, later)] == [0, 1]
    assert activity.view_counts() == counted_ranges(activity, before=3)


async def test_every_range_is_counted_again_within_a_day(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollup, "SMALLEST_SHARE", 1)
    monkeypatch.setattr(id_ranges, "AT_ONCE", 1)
    fill_ranges(activity, 30)
    await run(database, settings)
    activity.run("UPDATE view_counts SET views = views + 1, day = day - 1")
    now = datetime.now(UTC)

    jobs = [await run(database, settings, now=now + timedelta(hours=n, seconds=n)) for n in range(1, 25)]

    corrected = [job.statistics["segments_corrected"] for job in jobs]
    assert max(corrected) == 2
    assert sum(corrected) == 30
    assert activity.view_counts() == counted_ranges(activity, before=30)


@pytest.mark.usefixtures("refresh_always")
async def test_newest_views_that_were_deleted_open_their_ranges_again(
    database: Database, settings: Settings, activity: Activity
):
    fill_ranges(activity, 3)
    await run(database, settings)
    activity.run("DELETE FROM ad_views WHERE id >= %(first)s", first=2 * SIZE)
    skip_to(activity, 2 * SIZE)
    activity.views(noon(AUTUMN))

    await run(database, settings)

    assert activity.view_counts() == counted_ranges(activity, before=2)
    assert await views_in(database) == 7


async def test_ids_beyond_32_bits_are_counted(database: Database, settings: Settings, activity: Activity):
    far = 3_000_000_000 // SIZE
    skip_to(activity, far * SIZE)
    activity.views(noon(SPRING))
    skip_to(activity, (far + 1) * SIZE)
    activity.views(noon(SPRING))

    await run(database, settings)
    found = await verify(database, settings, sample=5)

    assert activity.view_counts() == [(far, "2026-03-29", 1)]
    assert found.differences == []


async def test_day_that_a_clock_ahead_of_time_has_rolled_up_is_counted_again(
    database: Database, settings: Settings, activity: Activity
):
    now = datetime.now(UTC)
    yesterday = daily_activity.last_closed(now, ZONE)
    await run(database, settings, now=now + timedelta(days=400))
    activity.users(noon(yesterday))

    await run(database, settings, now=now)

    (row,) = activity.rows("SELECT new_users FROM daily_activity WHERE day = %(day)s", day=yesterday)
    assert row["new_users"] == 1


@pytest.mark.parametrize("refilled", [0, 1, 3])
async def test_truncated_table_is_counted_from_the_beginning(
    database: Database, settings: Settings, activity: Activity, refilled: int
):
    fill_ranges(activity, 3)
    await run(database, settings)
    activity.run("TRUNCATE ad_views RESTART IDENTITY")
    fill_ranges(activity, refilled, day=AUTUMN)

    await run(database, settings)

    assert activity.view_counts() == counted_ranges(activity, before=refilled)
    assert (await verify(database, settings)).differences == []


async def test_another_time_zone_counts_everything_again(database: Database, settings: Settings, activity: Activity):
    fill_ranges(activity, 1)
    activity.views(at("2026-03-29T23:30+03:00"), at("2026-03-30T00:30+03:00"))
    await run(database, settings)
    site = settings.site.model_copy(update={"timezone": "America/New_York"})

    await run(database, settings.model_copy(update={"site": site}))

    first, last = SPRING - timedelta(days=3), SPRING + timedelta(days=3)
    assert activity.rolled_up(first, last) == activity.days(first, last, zone="America/New_York")
    assert activity.rolled_up(first, last) != activity.days(first, last)


@pytest.mark.parametrize(
    ("day", "begins", "ends", "hours"),
    [
        (SPRING, "2026-03-29T00:00+02:00", "2026-03-30T00:00+03:00", 23),
        (AUTUMN, "2026-10-25T00:00+03:00", "2026-10-26T00:00+02:00", 25),
    ],
)
async def test_day_with_23_or_25_hours_holds_all_its_rows(
    database: Database, settings: Settings, activity: Activity, day: date, begins: str, ends: str, hours: int
):
    second = timedelta(microseconds=1)
    first, after = at(begins), at(ends)
    every_hour = [first + timedelta(minutes=30, hours=n) for n in range(hours)]
    edges = [first - second, first, after - second, after]
    for make in (activity.ads, activity.users, activity.views):
        make(*edges, *every_hour)

    await run(database, settings)

    day_before, day_after = day - timedelta(days=1), day + timedelta(days=1)
    assert (after - first) == timedelta(hours=hours)
    assert activity.rolled_up(day_before, day_after) == activity.days(day_before, day_after)
    assert activity.rolled_up(day, day) == [
        {"day": day, "views": hours + 2, "new_ads": hours + 2, "new_users": hours + 2}
    ]
    assert [row["views"] for row in activity.rolled_up(day_before, day_after)] == [1, hours + 2, 1]


async def test_every_day_since_the_first_is_rolled_up_except_today(
    database: Database, settings: Settings, activity: Activity
):
    activity.views(noon(date(2026, 2, 5)), datetime.now(UTC))

    await run(database, settings)

    rows = activity.rows("SELECT day FROM daily_activity ORDER BY day")
    first = OPENED.date()
    assert [row["day"] for row in rows] == [first + timedelta(days=n) for n in range((yesterday() - first).days + 1)]


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("moment", ["infinity", "-infinity", "9999-12-31 23:59Z", "12000-01-01", "0100-01-01 BC"])
async def test_time_outside_the_calendar_belongs_to_no_day(
    database: Database, settings: Settings, activity: Activity, moment: str, *, closed: bool
):
    activity.ads(noon(SPRING))
    activity.views(noon(SPRING))
    activity.run(f"UPDATE car_ads SET created_at = '{moment}' WHERE id = (SELECT min(id) FROM car_ads)")
    activity.run(f"UPDATE auth_user SET created_at = '{moment}' WHERE id = (SELECT min(id) FROM auth_user)")
    activity.run(
        f"INSERT INTO ad_views (created_at, ip_address, ad_id) SELECT '{moment}', '192.0.2.1', ad_id FROM ad_views"
    )
    if closed:
        skip_to(activity, SIZE)
        activity.views(noon(SPRING))

    await run(database, settings)

    assert sum(views for _, day, views in activity.view_counts() if day == "-infinity") == int(closed)
    async with database.begin() as connection:
        counted = await queries.views_by_day(connection, zone=ZONE)
    assert (counted.total(), counted[SPRING]) == (2 + closed, 1 + closed)
    assert (await verify(database, settings)).differences == []


@pytest.mark.usefixtures("refresh_always")
async def test_rows_inserted_late_with_old_times_are_counted(
    database: Database, settings: Settings, activity: Activity
):
    fill_ranges(activity, 1)
    activity.ads(noon(yesterday()))
    await run(database, settings)
    activity.views(noon(yesterday()), noon(SPRING), count=3)
    activity.ads(noon(yesterday()))
    activity.users(noon(yesterday()))
    skip_to(activity, 2 * SIZE)
    activity.views(datetime.now(UTC))

    await run(database, settings)

    assert activity.rolled_up(SPRING, SPRING)[0]["views"] == activity.days(SPRING, SPRING)[0]["views"]
    assert activity.rolled_up(yesterday(), yesterday()) == activity.days(yesterday(), yesterday())


async def test_rows_inserted_late_while_no_job_ran_are_counted(
    database: Database, settings: Settings, activity: Activity
):
    day = yesterday() - timedelta(days=9)
    activity.views(noon(day))
    await run(database, settings, now=noon(day + timedelta(days=1)))
    activity.ads(noon(day))
    activity.users(noon(day - timedelta(days=2)))

    await run(database, settings)

    first = day - timedelta(days=2)
    assert activity.rolled_up(first, yesterday()) == activity.days(first, yesterday())


async def test_closed_days_take_over_counts_of_a_run_that_ran_out_of_time(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    activity.views(noon(SPRING), count=3)
    await run(database, settings)
    activity.views(noon(SPRING), count=5)
    skip_to(activity, SIZE)
    activity.views(noon(AUTUMN))
    running = settings.running.model_copy(update={"time_budget": timedelta(0)})
    hurried = settings.model_copy(update={"running": running})
    assert not await rollup.bring_up_to_date(job_context(JOB, database, hurried))
    monkeypatch.setattr(rollup, "REFRESH_EVERY", timedelta(0))

    work = await run(database, settings)

    assert activity.view_counts() == [(0, str(SPRING), 8)]
    assert work.statistics["segments_sealed"] == 0
    assert activity.rolled_up(SPRING, SPRING) == activity.days(SPRING, SPRING)


async def test_deleted_ads_leave_closed_days_within_a_day(database: Database, settings: Settings, activity: Activity):
    now = datetime.now(UTC)
    (ad, *_) = activity.ads(noon(SPRING), noon(SPRING))
    await run(database, settings, now=now)
    before = activity.rolled_up(SPRING, SPRING)[0]["new_ads"]
    activity.delete_ad(ad)

    within = await run(database, settings, now=now + timedelta(hours=21))
    later = await run(database, settings, now=now + timedelta(hours=24, seconds=1))

    assert (before, activity.rolled_up(SPRING, SPRING)[0]["new_ads"]) == (2, 1)
    assert [job.statistics["days_corrected"] for job in (within, later)] == [0, 1]


async def test_empty_platform_has_a_day_of_zeros(database: Database, settings: Settings, activity: Activity):
    activity.run("DELETE FROM add_accounts; DELETE FROM auth_user")

    work = await run(database, settings)

    assert activity.view_counts() == []
    assert work.statistics == NOTHING | {"days_rolled_up": 1}
    assert activity.rolled_up(yesterday(), yesterday()) == [
        {"day": yesterday(), "views": 0, "new_ads": 0, "new_users": 0}
    ]


async def test_logs_of_a_day_are_counted_with_it(database: Database, settings: Settings, activity: Activity):
    moment = noon(yesterday())
    for action in ("approve", "approve", "reject", "archived", "restored"):
        activity.run(
            "INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor, decided_at) "
            "VALUES (1, %(action)s, 'pending', 'active', 'x', 'x', %(moment)s)",
            action=action,
            moment=moment,
        )
    for status, method in (("sent", "email"), ("failed", "email"), ("sent", "email"), ("sent", "info_table")):
        activity.run(
            "INSERT INTO moderation_notification_logs (method, recipient, status, error_message, sent_at, external_id) "
            "VALUES (%(method)s, 'a@example.com', %(status)s, '', %(moment)s, '')",
            method=method,
            status=status,
            moment=moment,
        )
    for number, status in enumerate(("succeeded", "succeeded", "partial", "dead")):
        activity.run(
            "INSERT INTO update_logs (job, message_id, trigger, started_at, finished_at, status, worker) "
            "VALUES ('a.job', %(id)s, 'manual', %(moment)s, %(moment)s, %(status)s, 'w')",
            id=str(number),
            status=status,
            moment=moment,
        )

    await run(database, settings)

    (row,) = activity.rows("SELECT activity FROM daily_activity WHERE day = %(day)s", day=yesterday())
    assert row["activity"] == {
        "decisions": {"approve": 2, "reject": 1},
        "letters": {"sent": 2, "failed": 1},
        "runs": {"succeeded": 2, "partial": 1, "dead": 1},
    }


@pytest.mark.usefixtures("refresh_always")
async def test_purge_keeps_runs_that_will_be_counted_again(
    database: Database, settings: Settings, activity: Activity, deliver: Deliver
):
    day = yesterday() - daily_activity.LATE + timedelta(days=1)
    activity.run(
        "INSERT INTO update_logs (job, message_id, trigger, started_at, finished_at, status, worker) "
        "VALUES ('a.job', 'x', 'manual', %(moment)s, %(moment)s, 'dead', 'w')",
        moment=noon(day),
    )
    activity.ads(noon(day))
    await run(database, settings)

    await deliver(PurgeLogs(retention_days=0))
    await run(database, settings)

    (row,) = activity.rows("SELECT activity->'runs' AS runs FROM daily_activity WHERE day = %(day)s", day=day)
    assert row["runs"] == {"dead": 1}


async def test_run_out_of_time_is_continued_by_the_next(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(id_ranges, "AT_ONCE", 2)
    fill_ranges(activity, 5)
    running = settings.running.model_copy(update={"time_budget": timedelta(0)})
    hurried = settings.model_copy(update={"running": running})

    results = []
    while not results or (not results[-1] and len(results) < 100):
        results.append(await rollup.bring_up_to_date(job_context(JOB, database, hurried)))

    assert len(results) > 3
    assert results[-1]
    assert activity.view_counts() == counted_ranges(activity, before=5)
    assert (await verify(database, settings)).differences == []


async def test_concurrent_runs_count_everything_once(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(id_ranges, "AT_ONCE", 1)
    fill_ranges(activity, 8)

    first, second = await asyncio.gather(run(database, settings), run(database, settings))

    assert activity.view_counts() == counted_ranges(activity, before=8)
    assert first.statistics["segments_sealed"] + second.statistics["segments_sealed"] == 8
    assert (await verify(database, settings)).differences == []


async def test_rebuild_finds_the_same_counts(database: Database, settings: Settings, activity: Activity):
    fill_ranges(activity, 3)
    activity.ads(noon(SPRING), noon(AUTUMN))
    activity.users(noon(SPRING))
    await run(database, settings)
    everything = "SELECT day, views, new_ads, new_users, activity FROM daily_activity ORDER BY day"
    before = activity.view_counts(), activity.rows(everything)

    done = await rollup.rebuild(database, settings, progress=ignored)

    assert (activity.view_counts(), activity.rows(everything)) == before
    assert done["segments_sealed"] == 3


async def test_rebuild_corrects_changed_counts(database: Database, settings: Settings, activity: Activity):
    fill_ranges(activity, 3)
    await run(database, settings)
    before = activity.view_counts(), activity.rolled_up(OPENED.date(), yesterday())
    activity.run("UPDATE view_counts SET views = views + 1; UPDATE daily_activity SET views = 9, new_ads = 9")
    activity.run("DELETE FROM daily_activity WHERE day = '2026-02-02'")

    await rollup.rebuild(database, settings, progress=ignored)

    assert (activity.view_counts(), activity.rolled_up(OPENED.date(), yesterday())) == before


async def test_rebuild_keeps_counts_of_purged_logs(database: Database, settings: Settings, activity: Activity):
    activity.views(noon(SPRING))
    await run(database, settings)
    activity.run("UPDATE daily_activity SET activity = '{\"runs\": {\"dead\": 3}}' WHERE day = '2026-03-29'")

    await rollup.rebuild(database, settings, progress=ignored)

    (row,) = activity.rows("SELECT activity FROM daily_activity WHERE day = '2026-03-29'")
    assert row["activity"] == {"runs": {"dead": 3}}


async def test_verify_finds_no_differences(database: Database, settings: Settings, activity: Activity):
    fill_ranges(activity, 3)
    await run(database, settings)

    found = await verify(database, settings)
    sample = await verify(database, settings, sample=2)

    assert (found.id_ranges, found.differences) == (3, [])
    assert found.days == (yesterday() - OPENED.date()).days + 1
    assert (sample.id_ranges, sample.days, sample.differences) == (2, 2, [])


@pytest.mark.parametrize(
    ("tampering", "difference"),
    [
        (
            "UPDATE view_counts SET views = 7 WHERE segment = 1 AND day = '2026-03-29'",
            Difference("views", "id range 1, 2026-03-29", 7, 1),
        ),
        (
            "DELETE FROM view_counts WHERE segment = 1 AND day = '2026-03-29'",
            Difference("views", "id range 1, 2026-03-29", None, 1),
        ),
        (
            "INSERT INTO view_counts VALUES (1, '2026-05-05', 3)",
            Difference("views", "id range 1, 2026-05-05", 3, None),
        ),
        (
            "UPDATE daily_activity SET new_ads = 5 WHERE day = '2026-03-29'",
            Difference("new_ads", "2026-03-29", 5, 0),
        ),
        (
            "DELETE FROM daily_activity WHERE day = '2026-03-30'",
            Difference("views", "2026-03-30", None, 0),
        ),
    ],
)
async def test_verify_finds_a_changed_row(
    database: Database, settings: Settings, activity: Activity, tampering: str, difference: Difference
):
    fill_ranges(activity, 3)
    await run(database, settings)
    activity.run(tampering)

    found = await verify(database, settings)

    assert difference in found.differences


async def test_verify_without_roll_ups_compares_nothing(database: Database, settings: Settings, activity: Activity):
    activity.views(noon(SPRING))

    found = await verify(database, settings)

    assert (found.id_ranges, found.days, found.differences) == (0, 0, [])
