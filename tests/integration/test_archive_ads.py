"""maintenance.archive_ads, through the broker, on the marketplace's own table."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from consumers.maintenance.archive import archive_ads as job
from consumers.maintenance.archive import queries
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.errors import Reject
from pocketwatch.settings import Settings
from pocketwatch.storage import locks
from pocketwatch.storage.database import Database
from publishers import trigger
from schemas.ticks import ArchiveAds
from tests.fixtures.ads import Ads
from tests.fixtures.suite import Consume, Deliver, Program, Runs
from tests.support.job_contexts import job_context
from tests.support.waiting import eventually

JOB = "maintenance.archive_ads"
NOTHING = dict.fromkeys(job.STATISTICS, 0)
OTHER_STATUSES = ("draft", "pending", "needs_review", "blocked", "archived")


async def test_sold_rejected_and_inactive_ads_are_archived(deliver: Deliver, ads: Ads):
    (sold,), (rejected,) = ads.add("sold", created=0), ads.add("rejected", created=0)
    (forgotten,) = ads.add("active", created=400, updated=181)
    (cared_for,) = ads.add("active", created=400, updated=179)

    row = await deliver(ArchiveAds())

    assert row["status"] == "succeeded"
    figures = {"scanned": 4, "sold_archived": 1, "rejected_archived": 1, "inactive_archived": 1}
    assert row["statistics"] == NOTHING | figures
    archived = {sold, rejected, forgotten}
    assert ads.statuses() == {**dict.fromkeys(archived, "archived"), cared_for: "active"}


async def test_each_archived_ad_has_a_decision_with_the_reason(deliver: Deliver, ads: Ads):
    (sold,), (rejected,), (forgotten,) = ads.add("sold"), ads.add("rejected"), ads.add("active", updated=200)
    (was,) = ads.rows("SELECT updated_at, to_char(updated_at, 'YYYY-MM-DD') AS day FROM car_ads WHERE id = 3")

    row = await deliver(ArchiveAds())

    decisions = {decision["ad_id"]: decision for decision in ads.decisions()}
    assert {ad: decision["from_status"] for ad, decision in decisions.items()} == {
        sold: "sold",
        rejected: "rejected",
        forgotten: "active",
    }
    assert [decisions[ad]["reason"] for ad in (sold, rejected, forgotten)] == [
        "it was sold",
        "it was rejected",
        f"no change since {was['day']}, for more than 180 days",
    ]
    common = {(d["action"], d["to_status"], d["actor"], d["message_id"]) for d in decisions.values()}
    assert common == {("archived", "archived", "pocketwatch", row["message_id"])}
    assert datetime.fromisoformat(decisions[forgotten]["details"]["updated_at"]) == was["updated_at"]


async def test_archiving_updates_the_moment_of_change(deliver: Deliver, ads: Ads):
    ads.add("sold", updated=50)

    await deliver(ArchiveAds())

    (row,) = ads.rows("SELECT updated_at > now() - interval '1 minute' AS moved FROM car_ads")
    assert row["moved"]


@pytest.mark.parametrize("status", OTHER_STATUSES)
async def test_ads_of_other_statuses_are_kept(deliver: Deliver, ads: Ads, status: str):
    (kept,) = ads.add(status, created=4000)

    row = await deliver(ArchiveAds(inactive_days=1))

    assert ads.statuses() == {kept: status}
    assert row["statistics"] == NOTHING | {"scanned": 1}


@pytest.mark.parametrize(("days", "archived"), [(1, 2), (10, 1), (30, 0)])
async def test_inactive_days_are_those_of_the_message(deliver: Deliver, ads: Ads, days: int, archived: int):
    ads.add("active", updated=5)
    ads.add("active", updated=20)

    row = await deliver(ArchiveAds(inactive_days=days))

    assert row["statistics"]["inactive_archived"] == archived


async def test_unchanged_ad_is_dated_by_its_creation(deliver: Deliver, ads: Ads):
    (old,), (new,) = ads.add("active", created=181, updated=None), ads.add("active", created=179, updated=None)

    await deliver(ArchiveAds())

    assert ads.statuses() == {old: "archived", new: "active"}


async def test_active_ad_of_unknown_age_is_kept_and_counted(deliver: Deliver, ads: Ads):
    (kept,), (sold,) = ads.add("active", created=None), ads.add("sold", created=None)

    row = await deliver(ArchiveAds())

    assert ads.statuses() == {kept: "active", sold: "archived"}
    assert row["statistics"]["kept_undated"] == 1


async def test_dry_run_counts_the_same_and_changes_nothing(deliver: Deliver, ads: Ads, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(job, "PAGE", 4)
    ads.add("sold", count=5)
    ads.add("rejected", count=3)
    ads.add("active", updated=200, count=6)
    ads.add("active", updated=2, count=2)
    ads.add("active", created=None)
    before = ads.statuses()

    dry = await deliver(ArchiveAds(dry_run=True))
    assert ads.statuses() == before
    assert ads.decisions() == []
    real = await deliver(ArchiveAds())

    assert dry["statistics"] == real["statistics"]
    assert real["statistics"]["scanned"] == 17
    assert len(ads.decisions()) == 14


async def test_duplicate_message_archives_once(
    consume: Consume, publisher: Publisher, runs: Runs, ads: Ads, log_lines: list[dict[str, Any]]
):
    ads.add("sold", count=3)
    async with consume():
        sent = await trigger.publish(publisher, ArchiveAds())
        row = await runs.over(sent.message_id)
        (late,) = ads.add("sold")  # a second run would archive this
        await publisher.publish(message_of(sent, {}), exchange=sent.exchange, routing_key=sent.routing_key)
        await eventually(lambda: is_duplicate(log_lines))

    assert ads.statuses()[late] == "sold"
    assert len(ads.decisions()) == 3
    assert await runs.of(sent.message_id) == [row]


async def is_duplicate(log_lines: list[dict[str, Any]]) -> bool:
    return any(line.get("outcome") == "duplicate" for line in log_lines)


async def test_limit_makes_the_run_partial_and_the_next_one_continues(deliver: Deliver, ads: Ads):
    ads.add("sold", count=5)

    row = await deliver(ArchiveAds(max_archived=3))
    rest = await deliver(ArchiveAds(max_archived=3))

    assert row["status"] == "partial"
    assert row["error"] == "max_archived 3: limit reached; the next run continues"
    assert row["statistics"]["sold_archived"] == 3
    assert (rest["status"], rest["statistics"]["sold_archived"]) == ("succeeded", 2)


async def test_limit_that_is_just_enough_succeeds(deliver: Deliver, ads: Ads):
    ads.add("sold", count=3)

    row = await deliver(ArchiveAds(max_archived=3))

    assert row["status"] == "succeeded"


async def test_run_out_of_time_is_continued_with_the_rest_of_its_limit(
    consume: Consume, relay: None, publisher: Publisher, runs: Runs, ads: Ads, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job, "PAGE", 4)
    ads.add("sold", count=9)
    ads.add("active", updated=1)

    async with consume(time_budget=timedelta(0)):
        first = await trigger.publish(publisher, ArchiveAds(max_archived=9))
        last = await runs.over(f"{first.message_id}.1.1", within=20)

    rows = (await runs.newest(job="maintenance.archive_ads"))[::-1]
    assert [row["statistics"]["scanned"] for row in rows] == [4, 4, 2]
    assert [row["statistics"]["sold_archived"] for row in rows] == [4, 4, 1]
    assert last["status"] == "succeeded"
    assert "continued_by" not in last["statistics"]
    assert len(ads.decisions()) == 9


async def test_restored_ad_is_left_alone_for_the_inactive_days(deliver: Deliver, ads: Ads):
    (lately,), (long_ago,) = ads.add("sold"), ads.add("sold")
    for ad, days in ((lately, 179), (long_ago, 181)):
        ads.rows(
            "INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor, decided_at) "
            "VALUES (%(ad)s, 'restored', 'archived', 'sold', 'asked for', 'olena', "
            "now() - make_interval(days => %(days)s)) RETURNING id",
            {"ad": ad, "days": days},
        )

    row = await deliver(ArchiveAds())

    assert ads.statuses() == {lately: "sold", long_ago: "archived"}
    assert row["statistics"]["kept_restored"] == 1


async def test_restored_ad_that_is_sold_later_is_archived(deliver: Deliver, ads: Ads):
    (ad,) = ads.add("sold")
    ads.rows(
        "INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor) "
        "VALUES (%(ad)s, 'restored', 'archived', 'active', 'asked for', 'olena') RETURNING id",
        {"ad": ad},
    )

    await deliver(ArchiveAds())

    assert ads.statuses() == {ad: "archived"}


async def test_ad_being_edited_is_left_for_the_next_run(deliver: Deliver, ads: Ads):
    held, other = ads.add("sold", count=2)

    with psycopg.connect(ads.database_url) as editor:
        editor.execute("UPDATE car_ads SET status = 'active', updated_at = now() WHERE id = %s", [held])
        row = await deliver(ArchiveAds())

    assert row["status"] == "succeeded"
    assert row["statistics"]["sold_archived"] == 1
    assert row["statistics"]["kept_changed"] == 1
    assert ads.statuses() == {held: "active", other: "archived"}
    assert [decision["ad_id"] for decision in ads.decisions()] == [other]


@pytest.mark.parametrize("edit", ["status = 'active'", "updated_at = now()"])
async def test_edit_between_read_and_archiving_wins(
    database: Database, settings: Settings, ads: Ads, monkeypatch: pytest.MonkeyPatch, edit: str
):
    edited, other = ads.add("sold", updated=300, count=2)
    archive = queries.archive_ads

    async def edit_first(*arguments: Any, **more: Any) -> list[str]:
        with psycopg.connect(ads.database_url) as editor:
            editor.execute(f"UPDATE car_ads SET {edit} WHERE id = %s".encode(), [edited])
        return await archive(*arguments, **more)

    monkeypatch.setattr(queries, "archive_ads", edit_first)
    one = job_context(JOB, database, settings)
    await job.archive_ads(ArchiveAds(), one)

    assert ads.statuses()[edited] != "archived"
    assert ads.statuses()[other] == "archived"
    assert (one.statistics["sold_archived"], one.statistics["kept_changed"]) == (1, 1)


async def test_views_and_archiving_do_not_block_each_other(deliver: Deliver, ads: Ads):
    (sold,) = ads.add("sold")

    with psycopg.connect(ads.database_url) as visitor:
        visitor.execute("INSERT INTO ad_views (ip_address, ad_id) VALUES ('192.0.2.1', %s)", [sold])
        visitor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # its foreign key holds the ad
        await deliver(ArchiveAds())

    assert ads.statuses() == {sold: "archived"}


async def test_locked_table_is_retried_later(deliver: Deliver, ads: Ads, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", timedelta(milliseconds=100))
    (sold,) = ads.add("sold")

    with psycopg.connect(ads.database_url) as migration:
        migration.execute("LOCK TABLE car_ads IN ACCESS EXCLUSIVE MODE")
        row = await deliver(ArchiveAds())

    assert (row["status"], row["attempt"]) == ("skipped", 1)
    assert row["error"] == "car_ads or moderation_decisions: locked by another session"
    assert ads.statuses() == {sold: "sold"}


async def test_concurrent_runs_archive_each_ad_once(database: Database, settings: Settings, ads: Ads):
    ads.add("sold", count=3000)

    first, second = job_context(JOB, database, settings), job_context(JOB, database, settings)
    await asyncio.gather(job.archive_ads(ArchiveAds(), first), job.archive_ads(ArchiveAds(), second))

    assert first.statistics["sold_archived"] + second.statistics["sold_archived"] == 3000
    assert set(ads.statuses().values()) == {"archived"}
    assert sorted(decision["ad_id"] for decision in ads.decisions()) == list(ads.statuses())


async def test_clock_skew_archives_nothing(database: Database, settings: Settings, ads: Ads):
    (sold,) = ads.add("sold")
    one = job_context(JOB, database, settings, now=datetime.now(UTC) + timedelta(hours=2))

    with pytest.raises(Reject, match="nothing was changed, set the clocks"):
        await job.archive_ads(ArchiveAds(), one)

    assert ads.statuses() == {sold: "sold"}


async def test_killed_archiving_is_taken_over_and_archives_each_ad_once(
    pocketwatch: Program, publisher: Publisher, runs: Runs, ads: Ads
):
    count = 4000
    ads.add("sold", count=count)
    consumer = pocketwatch.start("consume", "maintenance")
    await asyncio.to_thread(consumer.until, "consumers.started")

    sent = await trigger.publish(publisher, ArchiveAds())
    with psycopg.connect(ads.database_url, autocommit=True) as watching:
        end = time.monotonic() + 20
        while not (archived := _archived(watching)):
            assert time.monotonic() < end
        consumer.kill()
    pocketwatch.start("consume", "maintenance")

    row = await runs.over(sent.message_id, within=30)
    assert 0 < archived < count
    assert (row["status"], row["attempt"]) == ("succeeded", 1)
    assert set(ads.statuses().values()) == {"archived"}
    assert sorted(decision["ad_id"] for decision in ads.decisions()) == list(ads.statuses())
    assert {decision["message_id"] for decision in ads.decisions()} == {sent.message_id}
    assert len(await runs.newest()) == 1


def _archived(connection: "psycopg.Connection[Any]") -> int:
    row = connection.execute("SELECT count(*) FROM car_ads WHERE status = 'archived'").fetchone()
    return int(row[0]) if row else 0
