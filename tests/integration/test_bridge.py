"""The bridge: tasks that Celery's own client calls, on a real broker and a real database."""

import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import sqlalchemy as sa

from consumers.app import consumers_of
from pocketwatch.broker import dead_letters
from pocketwatch.broker.dead_letters import DeadLetter
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import celery_queue
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import outbox
from tests.fixtures.ads import Ads
from tests.fixtures.celery import Platform
from tests.fixtures.suite import Consume, Program, Row, Runs
from tests.support.waiting import eventually

MEDIA = "clean_generated_media"
BULK = "apps.ads.tasks.moderation_notifications.notify_bulk_status_changed"
LONG = timedelta(minutes=10)

Dead = Callable[[], Awaitable[list[DeadLetter]]]


@pytest.fixture
async def bridge(consume: Consume, relay: None, settings: Settings) -> AsyncIterator[None]:
    async with consume(*consumers_of(["bridge", "cleanup"])):
        yield


@pytest.fixture
def dead(publisher: Publisher) -> Dead:
    async def letters() -> list[DeadLetter]:
        return await dead_letters.fetch(publisher, celery_queue("celery"), limit=100)

    return letters


def put(path: Path, *, days_old: float) -> None:
    path.write_bytes(b"x")
    moment = time.time() - days_old * 86400
    os.utime(path, (moment, moment))


def left(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


async def ran(runs: Runs, task_id: str, job: str) -> Row:
    """The row of this job, which the task became."""

    async def row() -> Row | None:
        rows = [row for row in await runs.of(task_id) if row["job"] == job and row["status"] != "running"]
        return rows[-1] if rows else None

    return await eventually(row)


async def sent(database: Database) -> list[Row]:
    """What was asked to be published, apart from facts."""
    async with database.begin() as connection:
        rows = await connection.execute(sa.select(outbox).where(outbox.c.exchange != "facts").order_by(outbox.c.id))
        return [dict(row) for row in rows.mappings()]


async def rename(database: Database, table: str, name: str) -> None:
    async with database.begin() as connection:
        await connection.execute(sa.text(f"ALTER TABLE {table} RENAME TO {name}"))


async def by_hand(publisher: Publisher, body: bytes, *, message_id: str | None = None, **headers: Any) -> None:
    message = aio_pika.Message(
        body, content_type="application/json", content_encoding="utf-8", message_id=message_id, headers=headers
    )
    await publisher.publish(message, exchange="", routing_key="celery")


async def test_a_task_that_is_delayed_runs_and_both_rows_of_the_run_log_have_its_id(
    platform: Platform, bridge: None, runs: Runs, media: Path
):
    put(media / "old", days_old=8)
    put(media / "new", days_old=6)

    task_id = platform("delay", MEDIA)

    cleaned, bridged = await ran(runs, task_id, "cleanup.media"), await ran(runs, task_id, "celery")
    assert left(media) == {"new"}
    assert (cleaned["status"], cleaned["trigger"], cleaned["correlation_id"]) == ("succeeded", "celery", task_id)
    assert (bridged["status"], bridged["trigger"]) == ("succeeded", "celery")
    assert bridged["statistics"] == {"task": MEDIA, "becomes": ["cleanup.media"]}


@pytest.mark.parametrize("given", [{"args": [3]}, {"kwargs": {"days": 3}}, {"kwargs": {"retention_days": 3}}])
async def test_arguments_arrive_by_place_and_by_name(
    platform: Platform, bridge: None, runs: Runs, media: Path, given: dict[str, Any]
):
    put(media / "old", days_old=4)
    put(media / "new", days_old=2)

    task_id = platform("send_task", MEDIA, **given)

    assert (await ran(runs, task_id, "cleanup.media"))["statistics"]["files_deleted"] == 1
    assert left(media) == {"new"}


async def test_the_command_of_the_old_docs_works(platform: Platform, bridge: None, runs: Runs, media: Path):
    put(media / "old", days_old=8)
    put(media / "newer", days_old=4)
    put(media / "newest", days_old=2)

    first = platform.command("call", MEDIA)
    assert (await ran(runs, first, "cleanup.media"))["statistics"]["files_deleted"] == 1
    second = platform.command("call", MEDIA, '--kwargs={"days": 3}')
    assert (await ran(runs, second, "cleanup.media"))["statistics"]["files_deleted"] == 1

    assert left(media) == {"newest"}


async def test_the_command_of_the_old_docs_works_with_a_countdown(
    platform: Platform, bridge: None, runs: Runs, database: Database
):
    task_id = platform.command("call", MEDIA, '--kwargs={"days": 3}', "--countdown", "2")

    row = await ran(runs, task_id, "cleanup.media")

    (asked,) = await sent(database)
    assert asked["available_at"] - asked["created_at"] > timedelta(seconds=1)
    assert row["started_at"] >= asked["available_at"]


@pytest.mark.parametrize("delay", [{"countdown": 600}, {"eta": "later"}])
async def test_a_task_for_later_leaves_at_its_eta_and_nobody_waits_for_it(
    platform: Platform, bridge: None, runs: Runs, database: Database, delay: dict[str, Any]
):
    before = datetime.now(UTC)
    options = {"eta": (before + LONG).isoformat()} if "eta" in delay else delay

    task_id = platform("apply_async", MEDIA, expires=(before + 2 * LONG).isoformat(), **options)

    assert (await ran(runs, task_id, "celery"))["status"] == "succeeded"
    (asked,) = await sent(database)
    assert (asked["message_id"], asked["headers"]["x-trigger"], asked["sent_at"]) == (task_id, "celery", None)
    assert timedelta(0) <= asked["available_at"] - before - LONG < timedelta(minutes=1)


async def test_an_eta_after_the_end_is_skipped_with_its_reason(
    platform: Platform, bridge: None, runs: Runs, database: Database
):
    now = datetime.now(UTC)
    expires, eta = (now + LONG).isoformat(), (now + 2 * LONG).isoformat()

    task_id = platform("apply_async", MEDIA, eta=eta, expires=expires)

    row = await ran(runs, task_id, "celery")
    assert (row["status"], row["error"]) == ("skipped", f"it expired at {expires}, before its eta, {eta}")
    assert await sent(database) == []


async def test_a_task_that_comes_after_its_end_is_skipped_with_its_reason(
    publisher: Publisher, bridge: None, runs: Runs, database: Database
):
    await by_hand(publisher, b"[[], {}, {}]", task=MEDIA, id="too-late", expires="2026-01-31T02:00:00")

    row = await ran(runs, "too-late", "celery")
    assert (row["status"], row["error"]) == ("skipped", "it expired at 2026-01-31T02:00:00+00:00, before now")
    assert await sent(database) == []


async def test_the_same_task_twice_runs_once(platform: Platform, bridge: None, runs: Runs, database: Database):
    for _ in range(2):
        platform("apply_async", MEDIA, task_id="the-same")
    last = platform("delay", MEDIA)
    await ran(runs, last, "cleanup.media")

    assert [row["job"] for row in await runs.of("the-same")] == ["celery", "cleanup.media"]
    assert [row["message_id"] for row in await sent(database)] == ["the-same", last]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (
            "core.tasks.clean_generated_medias",
            'task "core.tasks.clean_generated_medias" is not known; the nearest known one is "clean_generated_media"',
        ),
        (
            "clean_temp_files",
            'task "clean_temp_files" never existed, though the old schedule named it; call it no more',
        ),
    ],
)
async def test_an_unknown_task_is_a_dead_letter_that_says_why_and_names_the_nearest(
    platform: Platform, bridge: None, runs: Runs, dead: Dead, task: str, words: str
):
    task_id = platform("send_task", task)

    row = await ran(runs, task_id, "celery")
    assert (row["status"], row["error"], row["trigger"]) == ("rejected", words, "celery")
    (letter,) = await eventually(dead)
    assert (letter.queue, letter.message_id, letter.error) == ("celery", task_id, words)


async def test_a_pickle_is_never_read(platform: Platform, bridge: None, runs: Runs, dead: Dead, tmp_path: Path):
    task_id = platform("pickle", MEDIA, args=[str(tmp_path / "trapped")])

    row = await ran(runs, task_id, "celery")

    assert row["error"] == (
        f'task "{MEDIA}": is sent as "application/x-python-serialize", which is never read; '
        'set task_serializer = "json" (Celery)'
    )
    assert [letter.message_id for letter in await eventually(dead)] == [task_id]
    assert not (tmp_path / "trapped").exists()


async def test_the_trap_in_the_pickle_works(platform: Platform, publisher: Publisher, tmp_path: Path):
    import pickle  # noqa: PLC0415  only here: to show that the test above would see it

    platform("pickle", MEDIA, args=[str(tmp_path / "trapped")])

    async with publisher.connection.channel() as channel:
        message = await (await channel.get_queue("celery")).get()
        pickle.loads(message.body)  # noqa: S301

    assert (tmp_path / "trapped").exists()


@pytest.mark.parametrize("given", [{"compression": "zlib"}, {"compression": "gzip"}, {"priority": 3}])
async def test_what_celery_may_add_to_a_task_does_not_matter(
    platform: Platform, bridge: None, runs: Runs, given: dict[str, Any]
):
    options = {"shadow": "another", "time_limit": 5, "ignore_result": True, "headers": {"tenant": "a"}}

    task_id = platform("apply_async", MEDIA, **options, **given)

    assert (await ran(runs, task_id, "cleanup.media"))["status"] == "succeeded"


async def test_a_chain_is_refused_because_its_second_task_would_be_lost(
    platform: Platform, bridge: None, runs: Runs, database: Database
):
    task_id = platform("chain", MEDIA)

    row = await ran(runs, task_id, "celery")
    assert (row["status"], row["error"]) == (
        "rejected",
        f'task "{MEDIA}": cannot be followed by others (chain); call each task by itself',
    )
    assert await sent(database) == []


async def test_protocol_1_is_refused_with_what_to_set(platform: Platform, bridge: None, dead: Dead):
    platform("delay", MEDIA, settings={"task_protocol": 1})

    (letter,) = await eventually(dead)

    assert letter.error == (
        'the message is sent in message protocol 1 ("clean_generated_media"); set task_protocol = 2 (Celery)'
    )


async def test_each_owner_is_told_once_of_a_change_of_many_ads(
    platform: Platform, bridge: None, runs: Runs, database: Database, ads: Ads
):
    first, second, others = ads.add(count=3)
    (owner,) = ads.rows("SELECT min(id) AS id FROM auth_user")
    (other,) = ads.rows(
        "WITH person AS (INSERT INTO auth_user (password, email, is_active, is_staff, is_superuser) "
        "VALUES ('', 'other@shop.example', true, false, false) RETURNING id) "
        "INSERT INTO add_accounts (id, account_type, moderation_level, role, organization_name, stats_enabled, "
        "user_id) SELECT 2, 'BASIC', 'AUTO', 'seller', '', true, id FROM person RETURNING id, user_id"
    )
    ads.rows(
        "UPDATE car_ads SET account_id = %(account)s WHERE id = %(ad)s RETURNING id",
        {"account": other["id"], "ad": others},
    )

    task_id = platform("delay", BULK, args=[[second, others, first, 999_999], "rejected", "продано"])

    row = await ran(runs, task_id, "celery")
    assert row["statistics"] == {"task": BULK, "becomes": ["user.ad.unknown"], "unknown_ads": 1}
    mine, his = await sent(database)
    assert [mine["message_id"], his["message_id"]] == [f"{task_id}.1", f"{task_id}.2"]
    assert {(message["headers"]["x-trigger"], message["correlation_id"]) for message in (mine, his)} == {
        ("celery", task_id)
    }
    about = {"user_id": owner["id"], "status": "rejected", "reason": "продано", "action": "bulk_status_change"}
    assert mine["payload"]["data"].items() >= about.items()
    assert mine["payload"]["data"]["details"] == {"affected_ads": [second, first]}
    about = {"user_id": other["user_id"], "ad_id": others, "action": "manual_status_change", "details": None}
    assert his["payload"]["data"].items() >= about.items()


async def test_a_change_of_ads_that_do_not_exist_is_skipped(platform: Platform, bridge: None, runs: Runs):
    task_id = platform("delay", BULK, args=[[4711], "rejected"])

    row = await ran(runs, task_id, "celery")

    assert (row["status"], row["error"]) == ("skipped", "none of these ads exists, so nobody is to be told")


async def test_a_task_that_failed_waits_and_comes_back_as_the_same_task(
    publisher: Publisher, bridge: None, runs: Runs, database: Database, ads: Ads
):
    (ad_id,) = ads.add()
    await rename(database, "car_ads", "moved")
    body = json.dumps([[[ad_id], "rejected"], {}, {}]).encode()
    await by_hand(publisher, body, task=BULK, id="unlucky", root_id="the-root")
    assert (await ran(runs, "unlucky", "celery"))["status"] == "failed"

    await rename(database, "moved", "car_ads")

    async def both() -> bool:
        return [row["status"] for row in await runs.of("unlucky") if row["job"] == "celery"] == ["failed", "succeeded"]

    await eventually(both, within=20)
    again = (await runs.of("unlucky"))[1]
    assert (again["attempt"], again["trigger"], again["correlation_id"]) == (2, "celery", "the-root")
    assert [row["message_id"] for row in await sent(database)] == ["unlucky"]
    assert (await sent(database))[0]["headers"]["x-attempt"] == 1


async def test_a_dead_letter_can_be_sent_back_and_is_refused_again_while_its_argument_is_wrong(
    platform: Platform, bridge: None, runs: Runs, dead: Dead, pocketwatch: Program
):
    task_id = platform("delay", MEDIA, kwargs={"days": "seven"})
    words = f'task "{MEDIA}": days is "seven": must be a valid integer'
    assert [letter.error for letter in await eventually(dead)] == [words]

    done = pocketwatch("dead", "requeue", "--queue", "celery", task_id)

    assert done.returncode == 0, done.stderr

    async def again() -> bool:
        return [row["attempt"] for row in await runs.of(task_id) if row["status"] == "rejected"] == [1, 2]

    await eventually(again)
    (letter,) = await eventually(dead)
    assert (letter.message_id, letter.error, letter.headers["x-requeued"]) == (task_id, words, 1)


async def test_a_dead_letter_whose_cause_is_gone_runs_when_it_is_sent_back(
    publisher: Publisher,
    bridge: None,
    runs: Runs,
    database: Database,
    dead: Dead,
    pocketwatch: Program,
    ads: Ads,
):
    (ad_id,) = ads.add()
    await rename(database, "car_ads", "moved")
    body = json.dumps([[[ad_id], "rejected"], {}, {}]).encode()
    await by_hand(publisher, body, task=BULK, id="unlucky", **{"x-attempt": 6})
    assert [letter.message_id for letter in await eventually(dead)] == ["unlucky"]
    await rename(database, "moved", "car_ads")

    done = pocketwatch("dead", "requeue", "--queue", "celery", "--all")

    assert done.returncode == 0, done.stderr

    async def succeeded() -> bool:
        return [row["status"] for row in await runs.of("unlucky")] == ["dead", "succeeded"]

    await eventually(succeeded)
    assert await dead() == []


async def test_a_task_without_an_id_has_that_of_its_message(publisher: Publisher, bridge: None, runs: Runs):
    await by_hand(publisher, b"[[], {}, {}]", message_id="of-the-message", task=MEDIA)

    assert (await ran(runs, "of-the-message", "cleanup.media"))["status"] == "succeeded"


async def test_a_task_whose_id_cannot_be_used_is_a_dead_letter(publisher: Publisher, bridge: None, dead: Dead):
    await by_hand(publisher, b"[[], {}, {}]", task=MEDIA, id="x" * 201)

    (letter,) = await eventually(dead)

    assert letter.error == f'the task\'s id is "{"x" * 60}…"; it must not be longer than 200 bytes'


async def test_hundreds_of_tasks_become_as_many_events(publisher: Publisher, consume: Consume, database: Database):
    async with consume():
        for number in range(300):
            await by_hand(publisher, b"[[1], {}, {}]", task="moderate_ad_async", id=f"task-{number}")

        async def all_there() -> bool:
            return len(await sent(database)) == 300 and await queue_info(publisher.connection, "celery") == (0, 1)

        await eventually(all_there, within=20)

    assert {row["message_id"] for row in await sent(database)} == {f"task-{number}" for number in range(300)}
