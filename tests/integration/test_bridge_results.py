"""Results of bridged tasks, as the platform's Celery reads them from its Redis."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.rows import dict_row
from redis.asyncio import Redis

from consumers.app import consumers_of
from consumers.bridge import results
from consumers.cleanup.files.sweep import SHARE_APPLIES_ABOVE
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import celery_results, inbox, update_logs
from pocketwatch.worker.app import ConsumerApp
from tests.fixtures.ads import Ads
from tests.fixtures.servers import Servers
from tests.fixtures.site import Site
from tests.fixtures.suite import Consume, Program, Row, Runs
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

MEDIA, RATES = "clean_generated_media", "apps.currency.tasks.cleanup_old_currency_rates"
ADS = "apps.ads.tasks.moderation_notifications"
USED = consumers_of(["bridge", "rates"])


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"POCKETWATCH_CELERY_RESULTS": environment["REDIS_URL"]}


@pytest.fixture
async def redis(servers: Servers) -> AsyncIterator[Redis]:
    async with Redis.from_url(servers.urls["REDIS_URL"]) as client:
        yield client


async def ask(site: Site, function: str, **arguments: Any) -> Any:
    """Call the site without holding up the bridge, which runs in this process."""
    return await asyncio.to_thread(lambda: site.call(f"workers.{function}", **arguments))


def waiting(settings: Settings) -> list[Row]:
    with psycopg.connect(settings.database_url, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM celery_results ORDER BY id").fetchall()


async def nothing_waits(settings: Settings) -> None:
    async def none() -> bool:
        return not waiting(settings)

    await eventually(none)


async def test_results_say_how_the_tasks_have_ended(
    site: Site, consume: Consume, relay: None, settings: Settings, redis: Redis, ads: Ads, media: Path
):
    for number in range(SHARE_APPLIES_ABOVE + 1):
        (media / str(number)).touch()
        os.utime(media / str(number), (0, 0))
    (ad_id,) = ads.add()
    (owner,) = ads.rows("SELECT min(id) AS id FROM auth_user")
    calls = [
        {"task": RATES},
        {"task": MEDIA},  # fails, because it would delete everything
        {"task": "clean_everything"},
        {"task": MEDIA, "kwargs": {"days": "seven"}},
        {"task": f"{ADS}.notify_ad_max_attempts_reached", "args": [ad_id, owner["id"], 3]},
        {"task": f"{ADS}.notify_bulk_status_changed", "args": [[4711], "rejected"]},
        {"task": RATES, "countdown": 1},
        {"task": RATES, "ignore_result": True},
    ]

    async with consume():
        ids = await ask(site, "send", calls=calls)
        found = await ask(site, "results", ids=ids[:-1])
        await nothing_waits(settings)

    good, failed, unknown, wrong, several, skipped, later = found
    (run,) = good["got"]["runs"]
    assert (run["job"], run["message_id"], run["status"], run["error"]) == ("rates.cleanup", ids[0], "succeeded", None)
    assert run["statistics"]["rates_deleted"] == 0
    assert good | {"waited": 0} == {
        "status": "SUCCESS",
        "ready": True,
        "success": True,
        "waited": 0,
        "got": good["got"],
        "result": good["got"],
    }
    assert (failed["status"], failed["raised"]) == ("FAILURE", "TaskFailed")
    assert failed["error"].startswith("cleanup.media: ")
    assert (unknown["status"], unknown["raised"]) == ("FAILURE", "TaskRejected")
    assert unknown["error"].startswith('celery: task "clean_everything": unknown; did you mean')
    assert wrong["error"] == f'celery: task "{MEDIA}": days is "seven": must be a valid integer'
    assert [each["job"] for each in several["got"]["runs"]] == ["moderation.user_notices", "moderation.manager_notices"]
    assert (skipped["success"], skipped["got"]["runs"][0]["status"]) == (True, "skipped")
    assert skipped["got"]["runs"][0]["error"] == "none of these ads exists, so there is no owner to notify"
    assert later["got"]["runs"][0]["status"] == "succeeded"
    assert await redis.get(f"celery-task-meta-{ids[-1]}") is None
    stored = json.loads(await redis.get(f"celery-task-meta-{ids[0]}"))
    assert {name: value for name, value in stored.items() if name not in {"result", "date_done"}} == {
        "status": "SUCCESS",
        "traceback": None,
        "children": [],
        "task_id": ids[0],
    }
    assert abs(datetime.now(UTC) - datetime.fromisoformat(stored["date_done"])) < timedelta(minutes=5)
    assert 86_000 < await redis.ttl(f"celery-task-meta-{ids[0]}") <= 86_400


async def test_task_leaves_no_row_without_the_setting(site: Site, settings: Settings, relay: None, runs: Runs):
    servers = settings.servers.model_copy(update={"celery_results": None})
    async with ConsumerApp(settings.model_copy(update={"servers": servers}), consumers_of(["bridge"]), role="test"):
        ids = await ask(site, "send", calls=[{"task": RATES}, {"task": "clean_everything"}])
        for task_id in ids:
            await runs.over(task_id)

    assert waiting(settings) == []


@pytest.fixture
async def redis_proxy(servers: Servers) -> AsyncIterator[Proxy]:
    url = urlsplit(servers.urls["REDIS_URL"])
    assert url.hostname
    assert url.port
    async with Proxy(url.hostname, url.port) as opened:
        yield opened


async def test_redis_that_is_down_delays_results_only(
    site: Site, settings: Settings, relay: None, runs: Runs, redis_proxy: Proxy, log_lines
):
    url = redis_proxy.through(settings.servers.celery_results or "")
    changed = settings.servers.model_copy(update={"celery_results": url})
    await redis_proxy.cut()

    async with ConsumerApp(settings.model_copy(update={"servers": changed}), USED, role="test"):
        (task_id,) = await ask(site, "send", calls=[{"task": RATES}])

        async def ended() -> bool:
            return [row["status"] for row in await runs.of(task_id)] == ["succeeded", "succeeded"]

        await eventually(ended)
        assert await ask(site, "states", ids=[task_id]) == ["PENDING"]
        await redis_proxy.open()
        (result,) = await ask(site, "results", ids=[task_id])

    assert result["status"] == "SUCCESS"
    assert any(line["event"] == "celery_results.unavailable" for line in log_lines)


async def test_bridge_that_is_killed_writes_the_result_when_it_is_back(
    site: Site, pocketwatch: Program, consume: Consume, relay: None, settings: Settings, runs: Runs
):
    bridge = pocketwatch.start("consume", "bridge")
    bridge.until("queue.consumed")
    (task_id,) = await ask(site, "send", calls=[{"task": RATES}])

    async def bridged() -> bool:
        return [row["job"] for row in await runs.of(task_id) if row["status"] == "succeeded"] == ["celery"]

    await eventually(bridged)
    bridge.kill()
    assert [row["task_id"] for row in waiting(settings)] == [task_id]

    async with consume(*USED):
        (result,) = await ask(site, "results", ids=[task_id])

    assert result["status"] == "SUCCESS"


# One look at the rows, without a bridge


@pytest.fixture
def log(settings: Settings) -> Iterator[Any]:
    """Write rows of the tables that a look reads."""
    with psycopg.connect(settings.database_url, autocommit=True) as connection:

        def write(task_id: str, status: str, *, job: str = "job", claimed: bool = True, **values: Any) -> None:
            trigger, attempt = values.pop("trigger", "celery"), values.pop("attempt", 1)
            finished = None if status == "running" else datetime.now(UTC)
            row = (job, task_id, trigger, status, attempt, json.dumps(values), finished)
            connection.execute(
                "INSERT INTO update_logs (job, message_id, trigger, status, attempt, statistics, finished_at, worker) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, 'w')",
                row,
            )
            if claimed:
                connection.execute("INSERT INTO inbox (consumer, message_id) VALUES (%s, %s)", (job, task_id))

        yield write


async def look(database: Database, redis: Redis, *runs: list[str], expired: bool = False) -> list[list[list[str]]]:
    """Expect a result of these runs, look once, and return the runs that are waited for still."""
    now = datetime.now(UTC)
    row = {"task_id": runs[0][1], "runs": list(runs), "due_at": now - timedelta(days=1)}
    async with database.begin() as connection:
        expires_at = now + timedelta(hours=-1 if expired else 1)
        await connection.execute(sa.insert(celery_results), row | {"expires_at": expires_at})
    async with database.begin() as connection:
        await results.settle(connection, redis)
        left = list((await connection.execute(sa.select(celery_results.c.runs))).scalars())
        not_due = sa.select(sa.func.count()).where(celery_results.c.due_at > sa.func.now())
        assert (await connection.execute(not_due)).scalar_one() == len(left)
    return left


async def state(redis: Redis, task_id: str) -> str | None:
    stored = await redis.get(f"celery-task-meta-{task_id}")
    await redis.delete(f"celery-task-meta-{task_id}")
    return None if stored is None else str(json.loads(stored)["status"])


@pytest.mark.parametrize("status", ["running", "failed", "skipped"])
async def test_run_that_is_retried_has_no_result(database: Database, redis: Redis, log: Any, status: str):
    log("retried", status, claimed=False)

    assert await look(database, redis, ["job", "retried"]) == [[["job", "retried"]]]
    assert await state(redis, "retried") is None


async def test_last_attempt_counts(database: Database, redis: Redis, log: Any):
    log("dead-then-requeued", "dead", claimed=False)
    log("dead-then-requeued", "running", claimed=False, attempt=2)

    assert await look(database, redis, ["job", "dead-then-requeued"]) == [[["job", "dead-then-requeued"]]]


async def test_result_is_written_when_all_runs_have_ended(database: Database, redis: Redis, log: Any):
    log("two.1", "succeeded")
    both = [["job", "two.1"], ["job", "two.2"]]
    assert await look(database, redis, *both) == [both]
    async with database.begin() as connection:
        await connection.execute(sa.delete(celery_results))
    log("two.2", "dead", claimed=False)

    assert await look(database, redis, *both) == []
    assert await state(redis, "two.1") == "FAILURE"


async def test_continued_run_is_followed_to_its_end(database: Database, redis: Redis, log: Any):
    log("long", "succeeded", continued_by="long.1")

    assert await look(database, redis, ["job", "long"]) == [[["job", "long.1"]]]
    assert await state(redis, "long") is None


async def test_run_of_another_source_is_no_result(database: Database, redis: Redis, log: Any):
    log("shared", "succeeded", trigger="schedule")
    log("shared.celery", "dead", claimed=False)

    assert await look(database, redis, ["job", "shared"]) == []
    assert await state(redis, "shared") == "FAILURE"


async def test_result_that_never_comes_is_given_up(database: Database, redis: Redis):
    assert await look(database, redis, ["job", "lost"], expired=True) == []
    assert await state(redis, "lost") is None


async def test_runs_are_found_by_an_index(database: Database):
    """With many rows, neither the run log nor the inbox is scanned."""
    many = "SELECT 'job', 'm' || n, 'celery', 'succeeded', 'w', now() FROM generate_series(1, 20000) AS n"
    async with database.begin() as connection:
        await connection.execute(
            sa.text(f"INSERT INTO update_logs (job, message_id, trigger, status, worker, finished_at) {many}")
        )
        await connection.execute(
            sa.text(
                "INSERT INTO inbox (consumer, message_id) SELECT 'job', 'm' || n FROM generate_series(1, 20000) AS n"
            )
        )
        for table in (update_logs, inbox):
            await connection.execute(sa.text(f"ANALYZE {table.name}"))
        plan = await connection.execute(
            sa.text(f"EXPLAIN {results.ENDED}"), {"jobs": ["job"], "ids": ["m1"], "own_ids": ["m1.celery"]}
        )
        lines = "\n".join(plan.scalars())

    assert "Seq Scan" not in lines
