"""The bridge: tasks called by Celery's own client, on a real broker and a real database."""

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
    async def listed() -> list[DeadLetter]:
        return await dead_letters.fetch(publisher, celery_queue("celery"), limit=100)

    return listed


def put(path: Path, *, days_old: float) -> None:
    path.write_bytes(b"x")
    modified_at = time.time() - days_old * 86400
    os.utime(path, (modified_at, modified_at))


def left(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


async def ran(runs: Runs, task_id: str, job: str) -> Row:
    """Wait for the run of this job that the task caused."""

    async def row() -> Row | None:
        rows = [row for row in await runs.of(task_id) if row["job"] == job and row["status"] != "running"]
        return rows[-1] if rows else None

    return await eventually(row)


async def sent(database: Database) -> list[Row]:
    """Return the outbox without facts."""
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


async def test_delayed_task_runs_under_its_own_id(platform: Platform, bridge: None, runs: Runs, media: Path):
    put(media / "old", days_old=8)
    put(media / "new", days_old=6)

    task_id = platform("delay", MEDIA)

    cleaned, bridged = await ran(runs, task_id, "cleanup.media"), await ran(runs, task_id, "celery")
    assert left(media) == {"new"}
    assert (cleaned["status"], cleaned["trigger"], cleaned["correlation_id"]) == ("succeeded", "celery", task_id)
    assert (bridged["status"], bridged["trigger"]) == ("succeeded", "celery")
    assert bridged["statistics"] == {"task": MEDIA, "becomes": ["cleanup.media"]}


@pytest.mark.parametrize("given", [{"args": [3]}, {"kwargs": {"days": 3}}, {"kwargs": {"retention_days": 3}}])
async def test_positional_and_keyword_arguments_arrive(
    platform: Platform, bridge: None, runs: Runs, media: Path, given: dict[str, Any]
):
    put(media / "old", days_old=4)
    put(media / "new", days_old=2)

    task_id = platform("send_task", MEDIA, **given)

    assert (await ran(runs, task_id, "cleanup.media"))["statistics"]["files_deleted"] == 1
    assert left(media) == {"new"}


async def test_celery_call_command_works(platform: Platform, bridge: None, runs: Runs, media: Path):
    put(media / "old", days_old=8)
    put(media / "newer", days_old=4)
    put(media / "newest", days_old=2)

    first = platform.command("call", MEDIA)
    assert (await ran(runs, first, "cleanup.media"))["statistics"]["files_deleted"] == 1
    second = platform.command("call", MEDIA, '--kwargs={"days": 3}')
    assert (await ran(runs, second, "cleanup.media"))["statistics"]["files_deleted"] == 1

    assert left(media) == {"newest"}


async def test_celery_call_command_works_with_a_countdown(
    platform: Platform, bridge: None, runs: Runs, database: Database
):
    task_id = platform.command("call", MEDIA, '--kwargs={"days": 3}', "--countdown", "2")

    row = await ran(runs, task_id, "cleanup.media")

    (asked,) = await sent(database)
    assert asked["available_at"] - asked["created_at"] > timedelta(seconds=1)
    assert row["started_at"] >= asked["available_at"]


@pytest.mark.parametrize("delay", [{"countdown": 600}, {"eta": "later"}])
async def test_task_with_eta_is_published_at_its_eta_without_blocking(
    platform: Platform, bridge: None, runs: Runs, database: Database, delay: dict[str, Any]
):
    before = datetime.now(UTC)
    options = {"eta": (before + LONG).isoformat()} if "eta" in delay else delay

    task_id = platform("apply_async", MEDIA, expires=(before + 2 * LONG).isoformat(), **options)

    assert (await ran(runs, task_id, "celery"))["status"] == "succeeded"
    (asked,) = await sent(database)
    assert (asked["message_id"], asked["headers"]["x-trigger"], asked["sent_at"]) == (task_id, "celery", None)
    assert timedelta(0) <= asked["available_at"] - before - LONG < timedelta(minutes=1)


async def test_eta_after_expiry_is_skipped_with_its_reason(
    platform: Platform, bridge: None, runs: Runs, database: Database
):
    now = datetime.now(UTC)
    expires, eta = (now + LONG).isoformat(), (now + 2 * LONG).isoformat()

    task_id = platform("apply_async", MEDIA, eta=eta, expires=expires)

    row = await ran(runs, task_id, "celery")
    assert (row["status"], row["error"]) == ("skipped", f"expired at {expires}, before its eta, {eta}")
    assert await sent(database) == []


async def test_expired_task_is_skipped_with_its_reason(
    publisher: Publisher, bridge: None, runs: Runs, database: Database
):
    await by_hand(publisher, b"[[], {}, {}]", task=MEDIA, id="too-late", expires="2026-01-31T02:00:00")

    row = await ran(runs, "too-late", "celery")
    assert (row["status"], row["error"]) == ("skipped", "expired at 2026-01-31T02:00:00+00:00, before now")
    assert await sent(database) == []


async def test_same_task_id_runs_once(platform: Platform, bridge: None, runs: Runs, database: Database):
    for _ in range(2):
        platform("apply_async", MEDIA, task_id="the-same")
    last = platform("delay", MEDIA)
    await ran(runs, last, "cleanup.media")

    assert [row["job"] for row in await runs.of("the-same")] == ["celery", "cleanup.media"]
    assert [row["message_id"] for row in await sent(database)] == ["the-same", last]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (
            "core.tasks.clean_generated_medias",
            'task "core.tasks.clean_generated_medias": unknown; did you mean "clean_generated_media"?',
        ),
        (
            "clean_temp_files",
            'task "clean_temp_files": was scheduled but never written; remove the call',
        ),
    ],
)
async def test_unknown_task_is_rejected_with_the_nearest_name(
    platform: Platform, bridge: None, runs: Runs, dead: Dead, task: str, expected: str
):
    task_id = platform("send_task", task)

    row = await ran(runs, task_id, "celery")
    assert (row["status"], row["error"], row["trigger"]) == ("rejected", expected, "celery")
    (dead_letter,) = await eventually(dead)
    assert (dead_letter.queue, dead_letter.message_id, dead_letter.error) == ("celery", task_id, expected)


async def test_pickle_is_never_loaded(platform: Platform, bridge: None, runs: Runs, dead: Dead, tmp_path: Path):
    task_id = platform("pickle", MEDIA, args=[str(tmp_path / "trapped")])

    row = await ran(runs, task_id, "celery")

    assert row["error"] == (
        f'task "{MEDIA}": content type "application/x-python-serialize" is not accepted; '
        'set task_serializer = "json" in Celery'
    )
    assert [dead_letter.message_id for dead_letter in await eventually(dead)] == [task_id]
    assert not (tmp_path / "trapped").exists()


async def test_pickle_payload_executes_when_it_is_loaded(platform: Platform, publisher: Publisher, tmp_path: Path):
    import pickle  # noqa: PLC0415  proves that the test above would notice

    platform("pickle", MEDIA, args=[str(tmp_path / "trapped")])

    async with publisher.connection.channel() as channel:
        message = await (await channel.get_queue("celery")).get()
        pickle.loads(message.body)  # noqa: S301

    assert (tmp_path / "trapped").exists()


@pytest.mark.parametrize("given", [{"compression": "zlib"}, {"compression": "gzip"}, {"priority": 3}])
async def test_other_celery_options_are_ignored(platform: Platform, bridge: None, runs: Runs, given: dict[str, Any]):
    options = {"shadow": "another", "time_limit": 5, "ignore_result": True, "headers": {"tenant": "a"}}

    task_id = platform("apply_async", MEDIA, **options, **given)

    assert (await ran(runs, task_id, "cleanup.media"))["status"] == "succeeded"


async def test_chain_is_refused(platform: Platform, bridge: None, runs: Runs, database: Database):
    task_id = platform("chain", MEDIA)

    row = await ran(runs, task_id, "celery")
    assert (row["status"], row["error"]) == (
        "rejected",
        f'task "{MEDIA}": follow-up tasks (chain) are not supported; call each task separately',
    )
    assert await sent(database) == []


async def test_protocol_1_is_rejected_with_the_remedy(platform: Platform, bridge: None, dead: Dead):
    platform("delay", MEDIA, settings={"task_protocol": 1})

    (dead_letter,) = await eventually(dead)

    assert dead_letter.error == (
        'message: message protocol 1 ("clean_generated_media") is not accepted; set task_protocol = 2 in Celery'
    )


async def test_bulk_change_notifies_each_owner_once(
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
    first_notice, second_notice = await sent(database)
    assert [first_notice["message_id"], second_notice["message_id"]] == [f"{task_id}.1", f"{task_id}.2"]
    assert {
        (message["headers"]["x-trigger"], message["correlation_id"]) for message in (first_notice, second_notice)
    } == {("celery", task_id)}
    about = {"user_id": owner["id"], "status": "rejected", "reason": "продано", "action": "bulk_status_change"}
    assert first_notice["payload"]["data"].items() >= about.items()
    assert first_notice["payload"]["data"]["details"] == {"affected_ads": [second, first]}
    about = {"user_id": other["user_id"], "ad_id": others, "action": "manual_status_change", "details": None}
    assert second_notice["payload"]["data"].items() >= about.items()


async def test_bulk_change_of_unknown_ads_is_skipped(platform: Platform, bridge: None, runs: Runs):
    task_id = platform("delay", BULK, args=[[4711], "rejected"])

    row = await ran(runs, task_id, "celery")

    assert (row["status"], row["error"]) == ("skipped", "none of these ads exists, so there is no owner to notify")


async def test_failed_task_is_retried_as_the_same_task(
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


async def test_requeued_task_is_rejected_again_while_invalid(
    platform: Platform, bridge: None, runs: Runs, dead: Dead, pocketwatch: Program
):
    task_id = platform("delay", MEDIA, kwargs={"days": "seven"})
    expected = f'task "{MEDIA}": days is "seven": must be a valid integer'
    assert [dead_letter.error for dead_letter in await eventually(dead)] == [expected]

    done = pocketwatch("dead", "requeue", "--queue", "celery", task_id)

    assert done.returncode == 0, done.stderr

    async def again() -> bool:
        return [row["attempt"] for row in await runs.of(task_id) if row["status"] == "rejected"] == [1, 2]

    await eventually(again)
    (dead_letter,) = await eventually(dead)
    assert (dead_letter.message_id, dead_letter.error, dead_letter.headers["x-requeued"]) == (task_id, expected, 1)


async def test_requeued_task_runs_when_its_cause_is_gone(
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
    assert [dead_letter.message_id for dead_letter in await eventually(dead)] == ["unlucky"]
    await rename(database, "moved", "car_ads")

    done = pocketwatch("dead", "requeue", "--queue", "celery", "--all")

    assert done.returncode == 0, done.stderr

    async def succeeded() -> bool:
        return [row["status"] for row in await runs.of("unlucky")] == ["dead", "succeeded"]

    await eventually(succeeded)
    assert await dead() == []


async def test_task_without_id_uses_the_message_id(publisher: Publisher, bridge: None, runs: Runs):
    await by_hand(publisher, b"[[], {}, {}]", message_id="of-the-message", task=MEDIA)

    assert (await ran(runs, "of-the-message", "cleanup.media"))["status"] == "succeeded"


async def test_task_with_too_long_id_is_rejected(publisher: Publisher, bridge: None, dead: Dead):
    await by_hand(publisher, b"[[], {}, {}]", task=MEDIA, id="x" * 256)

    (dead_letter,) = await eventually(dead)

    assert dead_letter.error == f"message_id is '{'x' * 59}: must be printable text of at most 255 bytes"


async def test_hundreds_of_tasks_become_as_many_messages(publisher: Publisher, consume: Consume, database: Database):
    async with consume():
        for number in range(300):
            await by_hand(publisher, b"[[1], {}, {}]", task="moderate_ad_async", id=f"task-{number}")

        async def all_there() -> bool:
            return len(await sent(database)) == 300 and await queue_info(publisher.connection, "celery") == (0, 1)

        await eventually(all_there, within=20)

    assert {row["message_id"] for row in await sent(database)} == {f"task-{number}" for number in range(300)}
