"""The roll-ups: the same numbers as plain counts of the rows, whatever comes late, goes, or runs at the same time."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from consumers.analytics import queries
from consumers.analytics.rollup import daily_activity, rollup
from consumers.analytics.rollup.id_ranges import SEGMENT
from consumers.analytics.rollup.verify import Difference, verify
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import JobContext
from schemas.ticks import PurgeLogs
from tests.fixtures.activity import OPENED, ZONE, Activity, at
from tests.fixtures.suite import Deliver
from tests.support.alone import transaction
from tests.support.waiting import eventually

JOB = "analytics.quick_stats"
NOTHING = dict.fromkeys(rollup.STATISTICS, 0)
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)


async def run(database: Database, settings: Settings, *, now: datetime | None = None) -> JobContext:
    """Bring the roll-ups up to date; what was done is in the statistics."""
    work = transaction(JOB, database, settings, now=now)
    assert await rollup.bring_up_to_date(work)
    return work


async def ignored(_: float) -> None:
    """Nobody looks."""


def skip_to(activity: Activity, id_: int) -> None:
    """The next view has this id, as if as many had come and gone as there are ids before it."""
    activity.run("SELECT setval(pg_get_serial_sequence('ad_views', 'id'), %(id)s, false)", id=id_)


def raw_segments(activity: Activity, *, before: int) -> list[tuple[int, str, int]]:
    """What the segments should say, by a plain count."""
    rows = activity.rows(
        f"SELECT id / {SEGMENT} AS segment, coalesce((created_at AT TIME ZONE '{ZONE}')::date::text, '-infinity') "
        "AS day, count(*) AS views FROM ad_views WHERE id < %(before)s GROUP BY 1, 2 ORDER BY 1, 2",
        before=before * SEGMENT,
    )
    return [(row["segment"], row["day"], row["views"]) for row in rows]


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 10, tzinfo=UTC)


def yesterday() -> date:
    return daily_activity.last_closed(datetime.now(UTC), ZONE)


def views_in_segments(activity: Activity, count: int, *, day: date = SPRING) -> None:
    """So many full segments with a few rows each, and a row in the one after them."""
    for segment in range(count):
        skip_to(activity, segment * SEGMENT + SEGMENT - 5)
        activity.views(noon(day), noon(day - timedelta(days=1)), None, count=1)
    skip_to(activity, count * SEGMENT + 3)
    activity.views(noon(day))


async def test_full_segments_are_counted_once_and_the_open_one_is_not(
    database: Database, settings: Settings, activity: Activity
):
    views_in_segments(activity, 3)

    first, second = await run(database, settings), await run(database, settings)

    assert activity.segments() == raw_segments(activity, before=3)
    assert len(activity.segments()) == 9
    assert (first.statistics["segments_sealed"], second.statistics["segments_sealed"]) == (3, 0)


async def test_a_segment_is_not_full_before_its_last_id_is_taken(
    database: Database, settings: Settings, activity: Activity
):
    skip_to(activity, SEGMENT - 1)
    activity.views(noon(SPRING))
    await run(database, settings)
    before = activity.segments()
    activity.views(noon(SPRING))

    await run(database, settings)

    assert before == []
    assert activity.segments() == [(0, "2026-03-29", 1)]


async def test_an_open_transaction_whose_ids_are_lower_keeps_its_segment_from_being_counted(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollup, "WRITERS_MAY_TAKE", 0.2)
    (ad,) = activity.ads(noon(SPRING))
    skip_to(activity, SEGMENT - 2)
    activity.views(noon(SPRING), ad=ad)
    insert = "INSERT INTO ad_views (created_at, ip_address, ad_id) VALUES (%s, '192.0.2.1', %s) RETURNING id"

    with psycopg.connect(activity.database_url) as late:
        (low,) = late.execute(insert, (noon(SPRING), ad)).fetchone() or ()
        (high,) = activity.views(noon(SPRING), noon(SPRING), ad=ad)[1:]
        await run(database, settings)
        while_open = activity.segments()
    after = await run(database, settings)

    assert low < SEGMENT <= high
    assert while_open == []
    assert after.statistics["segments_sealed"] == 1
    assert activity.segments() == [(0, "2026-03-29", 2)]


async def test_who_inserts_for_a_moment_is_waited_for(database: Database, settings: Settings, activity: Activity):
    (ad,) = activity.ads(noon(SPRING))
    skip_to(activity, SEGMENT - 2)
    activity.views(noon(SPRING), ad=ad)
    async with await psycopg.AsyncConnection.connect(activity.database_url) as late:
        await late.execute(
            "INSERT INTO ad_views (created_at, ip_address, ad_id) VALUES (now(), '192.0.2.1', %s)", (ad,)
        )
        activity.views(noon(SPRING), ad=ad)
        asked: list[bool] = []  # a run that waits asks again and again whether it is to stop
        work = transaction(JOB, database, settings, stopping=lambda: bool(asked.append(False)))
        running = asyncio.create_task(rollup.bring_up_to_date(work))
        await eventually(lambda: has_asked(asked, times=5))
        await late.commit()
        assert await running

    assert work.statistics["segments_sealed"] == 1
    assert sum(views for _, _, views in activity.segments()) == 2


async def has_asked(asked: list[bool], *, times: int) -> bool:
    return len(asked) >= times


async def test_ids_that_somebody_chose_himself_do_not_seal_what_the_sequence_has_not_reached(
    database: Database, settings: Settings, activity: Activity
):
    activity.views(noon(SPRING))
    activity.run(
        "INSERT INTO ad_views (id, created_at, ip_address, ad_id) SELECT 900000000000, now(), '192.0.2.1', min(id) "
        "FROM car_ads"
    )

    await run(database, settings)

    assert activity.segments() == []


async def test_views_that_go_with_their_ad_go_from_the_roll_ups(
    database: Database, settings: Settings, activity: Activity
):
    doomed, kept = activity.ads(noon(SPRING), noon(SPRING))
    for segment in range(5):
        skip_to(activity, segment * SEGMENT + SEGMENT - 9)
        activity.views(noon(SPRING), noon(AUTUMN), count=2, ad=kept if segment % 2 else doomed)
        activity.views(noon(SPRING), ad=kept)
    skip_to(activity, 5 * SEGMENT + 1)
    activity.views(noon(SPRING), ad=kept)
    await run(database, settings)
    activity.delete_ad(doomed)

    work = await run(database, settings)

    assert work.statistics["segments_corrected"] == 3
    assert activity.segments() == raw_segments(activity, before=5)
    assert activity.rolled_up(SPRING, SPRING)[0]["views"] == activity.days(SPRING, SPRING)[0]["views"] == 10


async def test_views_that_went_before_postgresql_began_to_count_anew_go_from_the_roll_ups(
    database: Database, settings: Settings, activity: Activity
):
    views_in_segments(activity, 3)
    await run(database, settings)
    activity.run("DELETE FROM ad_views WHERE id < %(until)s", until=SEGMENT)
    activity.run("SELECT pg_stat_reset()")

    work = await run(database, settings)

    assert work.statistics["segments_corrected"] == 1
    assert activity.segments() == raw_segments(activity, before=3)


async def test_without_deletions_no_segment_is_compared(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    views_in_segments(activity, 3)
    await run(database, settings)
    activity.run("UPDATE view_counts SET views = views + 1 WHERE segment = 2")  # would be found by a comparison

    await run(database, settings)

    assert activity.segments() != raw_segments(activity, before=3)


async def test_what_goes_unnoticed_is_put_right_in_rotation(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollup, "REFRESHED_EVERY", timedelta(0))
    monkeypatch.setattr(rollup, "RECHECKED", 1)
    views_in_segments(activity, 3)
    await run(database, settings)
    activity.run("UPDATE view_counts SET views = views + 1, day = day - 1")

    works = [await run(database, settings) for _ in range(3)]

    assert [work.statistics["segments_corrected"] for work in works] == [1, 1, 1]
    assert activity.segments() == raw_segments(activity, before=3)


async def test_segments_beyond_two_thousand_million_ids_are_counted(
    database: Database, settings: Settings, activity: Activity
):
    far = 3_000_000_000 // SEGMENT
    skip_to(activity, far * SEGMENT)
    activity.views(noon(SPRING))
    skip_to(activity, (far + 1) * SEGMENT)
    activity.views(noon(SPRING))

    await run(database, settings)
    found = await verify(database, settings, sample=5)

    assert activity.segments() == [(far, "2026-03-29", 1)]
    assert found.differences == []


@pytest.mark.parametrize("refilled", [0, 1, 3])
async def test_a_table_that_was_emptied_is_counted_from_its_beginning(
    database: Database, settings: Settings, activity: Activity, refilled: int
):
    views_in_segments(activity, 3)
    await run(database, settings)
    activity.run("TRUNCATE ad_views RESTART IDENTITY")
    views_in_segments(activity, refilled, day=AUTUMN)

    await run(database, settings)

    assert activity.segments() == raw_segments(activity, before=refilled)
    assert (await verify(database, settings)).differences == []


async def test_another_zone_begins_anew(database: Database, settings: Settings, activity: Activity):
    views_in_segments(activity, 1)
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
async def test_a_day_has_as_many_hours_as_the_clocks_in_kyiv_show(
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


async def test_every_day_since_the_first_is_rolled_up_and_the_open_one_is_not(
    database: Database, settings: Settings, activity: Activity
):
    activity.views(noon(date(2026, 2, 5)), datetime.now(UTC))

    await run(database, settings)

    rows = activity.rows("SELECT day FROM daily_activity ORDER BY day")
    first = OPENED.date()
    assert [row["day"] for row in rows] == daily_activity.Days(first, yesterday()).all()


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("moment", ["infinity", "-infinity", "9999-12-31 23:59Z", "12000-01-01", "0100-01-01 BC"])
async def test_a_moment_that_no_calendar_knows_is_of_no_day_and_stops_nobody(
    database: Database, settings: Settings, activity: Activity, moment: str, *, sealed: bool
):
    activity.ads(noon(SPRING))
    activity.views(noon(SPRING))
    activity.run(f"UPDATE car_ads SET created_at = '{moment}' WHERE id = (SELECT min(id) FROM car_ads)")
    activity.run(f"UPDATE auth_user SET created_at = '{moment}' WHERE id = (SELECT min(id) FROM auth_user)")
    activity.run(
        f"INSERT INTO ad_views (created_at, ip_address, ad_id) SELECT '{moment}', '192.0.2.1', ad_id FROM ad_views"
    )
    if sealed:
        skip_to(activity, SEGMENT)
        activity.views(noon(SPRING))

    await run(database, settings)

    assert sum(views for _, day, views in activity.segments() if day == "-infinity") == int(sealed)
    async with database.begin() as connection:
        counted = await queries.views(connection, SPRING, zone=ZONE)
    assert (counted.total, counted.of_day) == (2 + sealed, 1 + sealed)
    assert (await verify(database, settings)).differences == []


async def test_late_rows_with_old_moments_are_taken_in(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    views_in_segments(activity, 1)
    activity.ads(noon(yesterday()))
    await run(database, settings)
    activity.views(noon(yesterday()), noon(SPRING), count=3)
    activity.ads(noon(yesterday()))
    activity.users(noon(yesterday()))
    skip_to(activity, 2 * SEGMENT)
    activity.views(datetime.now(UTC))
    monkeypatch.setattr(rollup, "REFRESHED_EVERY", timedelta(0))

    await run(database, settings)

    assert activity.rolled_up(SPRING, SPRING)[0]["views"] == activity.days(SPRING, SPRING)[0]["views"]
    assert activity.rolled_up(yesterday(), yesterday()) == activity.days(yesterday(), yesterday())


async def test_late_rows_that_came_while_no_job_ran_are_taken_in(
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


async def test_days_long_past_learn_what_a_run_has_counted_that_did_not_come_to_its_end(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    activity.views(noon(SPRING), count=3)
    await run(database, settings)
    activity.views(noon(SPRING), count=5)
    skip_to(activity, SEGMENT)
    activity.views(datetime.now(UTC))
    running = settings.running.model_copy(update={"time_budget": timedelta(0)})
    hurried = settings.model_copy(update={"running": running})
    assert not await rollup.bring_up_to_date(transaction(JOB, database, hurried))
    monkeypatch.setattr(rollup, "REFRESHED_EVERY", timedelta(0))

    work = await run(database, settings)

    assert activity.segments() == [(0, str(SPRING), 8)]
    assert work.statistics["segments_sealed"] == 0
    assert activity.rolled_up(SPRING, SPRING) == activity.days(SPRING, SPRING)


async def test_ads_that_go_leave_the_days_long_past(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    (ad, *_) = activity.ads(noon(SPRING), noon(SPRING))
    await run(database, settings)
    before = activity.rolled_up(SPRING, SPRING)[0]["new_ads"]
    activity.delete_ad(ad)
    monkeypatch.setattr(rollup, "REFRESHED_EVERY", timedelta(0))

    work = await run(database, settings)

    assert (before, activity.rolled_up(SPRING, SPRING)[0]["new_ads"]) == (2, 1)
    assert work.statistics["days_corrected"] == 1


async def test_an_empty_platform_has_a_day_without_anything(database: Database, settings: Settings, activity: Activity):
    activity.run("DELETE FROM add_accounts; DELETE FROM auth_user")

    work = await run(database, settings)

    assert activity.segments() == []
    assert work.statistics == NOTHING | {"days_rolled_up": 1}
    assert activity.rolled_up(yesterday(), yesterday()) == [
        {"day": yesterday(), "views": 0, "new_ads": 0, "new_users": 0}
    ]


async def test_the_logs_of_a_day_are_counted_with_it(database: Database, settings: Settings, activity: Activity):
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


async def test_no_purge_takes_runs_that_are_to_be_counted_again(
    database: Database, settings: Settings, activity: Activity, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
):
    day = yesterday() - daily_activity.LATE + timedelta(days=1)
    activity.run(
        "INSERT INTO update_logs (job, message_id, trigger, started_at, finished_at, status, worker) "
        "VALUES ('a.job', 'x', 'manual', %(moment)s, %(moment)s, 'dead', 'w')",
        moment=noon(day),
    )
    activity.ads(noon(day))
    await run(database, settings)
    monkeypatch.setattr(rollup, "REFRESHED_EVERY", timedelta(0))

    await deliver(PurgeLogs(retention_days=0))
    await run(database, settings)

    (row,) = activity.rows("SELECT activity->'runs' AS runs FROM daily_activity WHERE day = %(day)s", day=day)
    assert row["runs"] == {"dead": 1}


async def test_a_run_out_of_time_says_so_and_the_next_one_goes_on(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollup, "COUNTED_AT_ONCE", 2)
    views_in_segments(activity, 5)
    running = settings.running.model_copy(update={"time_budget": timedelta(0)})
    hurried = settings.model_copy(update={"running": running})

    results = []
    while not results or (not results[-1] and len(results) < 100):
        results.append(await rollup.bring_up_to_date(transaction(JOB, database, hurried)))

    assert len(results) > 3
    assert results[-1]
    assert activity.segments() == raw_segments(activity, before=5)
    assert (await verify(database, settings)).differences == []


async def test_two_runs_at_once_count_everything_once(
    database: Database, settings: Settings, activity: Activity, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rollup, "COUNTED_AT_ONCE", 1)
    views_in_segments(activity, 8)

    first, second = await asyncio.gather(run(database, settings), run(database, settings))

    assert activity.segments() == raw_segments(activity, before=8)
    assert first.statistics["segments_sealed"] + second.statistics["segments_sealed"] == 8
    assert (await verify(database, settings)).differences == []


async def test_a_rebuild_finds_the_same_numbers(database: Database, settings: Settings, activity: Activity):
    views_in_segments(activity, 3)
    activity.ads(noon(SPRING), noon(AUTUMN))
    activity.users(noon(SPRING))
    await run(database, settings)
    everything = "SELECT day, views, new_ads, new_users, activity FROM daily_activity ORDER BY day"
    before = activity.segments(), activity.rows(everything)

    done = await rollup.rebuild(database, settings, progress=ignored)

    assert (activity.segments(), activity.rows(everything)) == before
    assert done["segments_sealed"] == 3


async def test_a_rebuild_mends_what_was_tampered_with(database: Database, settings: Settings, activity: Activity):
    views_in_segments(activity, 3)
    await run(database, settings)
    before = activity.segments(), activity.rolled_up(OPENED.date(), yesterday())
    activity.run("UPDATE view_counts SET views = views + 1; UPDATE daily_activity SET views = 9, new_ads = 9")
    activity.run("DELETE FROM daily_activity WHERE day = '2026-02-02'")

    await rollup.rebuild(database, settings, progress=ignored)

    assert (activity.segments(), activity.rolled_up(OPENED.date(), yesterday())) == before


async def test_what_the_logs_no_longer_tell_stays_through_a_rebuild(
    database: Database, settings: Settings, activity: Activity
):
    activity.views(noon(SPRING))
    await run(database, settings)
    activity.run("UPDATE daily_activity SET activity = '{\"runs\": {\"dead\": 3}}' WHERE day = '2026-03-29'")

    await rollup.rebuild(database, settings, progress=ignored)

    (row,) = activity.rows("SELECT activity FROM daily_activity WHERE day = '2026-03-29'")
    assert row["activity"] == {"runs": {"dead": 3}}


async def test_what_is_true_is_verified(database: Database, settings: Settings, activity: Activity):
    views_in_segments(activity, 3)
    await run(database, settings)

    found = await verify(database, settings)
    sample = await verify(database, settings, sample=2)

    assert (found.segments, found.differences) == (3, [])
    assert found.days == (yesterday() - OPENED.date()).days + 1
    assert (sample.segments, sample.days, sample.differences) == (2, 2, [])


@pytest.mark.parametrize(
    ("tampering", "difference"),
    [
        (
            "UPDATE view_counts SET views = 7 WHERE segment = 1 AND day = '2026-03-29'",
            Difference("views", "segment 1, 2026-03-29", 7, 1),
        ),
        (
            "DELETE FROM view_counts WHERE segment = 1 AND day = '2026-03-29'",
            Difference("views", "segment 1, 2026-03-29", None, 1),
        ),
        (
            "INSERT INTO view_counts VALUES (1, '2026-05-05', 3)",
            Difference("views", "segment 1, 2026-05-05", 3, None),
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
async def test_a_row_that_was_tampered_with_is_found(
    database: Database, settings: Settings, activity: Activity, tampering: str, difference: Difference
):
    views_in_segments(activity, 3)
    await run(database, settings)
    activity.run(tampering)

    found = await verify(database, settings)

    assert difference in found.differences


async def test_nothing_rolled_up_is_nothing_to_verify(database: Database, settings: Settings, activity: Activity):
    activity.views(noon(SPRING))

    found = await verify(database, settings)

    assert (found.segments, found.days, found.differences) == (0, 0, [])
