"""A Redis that dies or forgets while cleanup.sessions runs: the run fails clearly, is tried again, and ends right."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from consumers.cleanup.sessions import redis_store
from consumers.cleanup.sessions.redis_store import KeyChange, KeyPage, SessionStore
from pocketwatch.broker.publisher import Publisher
from pocketwatch.errors import ServerUnreachable
from pocketwatch.storage.redis import connected
from publishers import trigger
from schemas.ticks import CleanSessions
from tests.fixtures.servers import Servers
from tests.fixtures.sessions import Sessions
from tests.fixtures.suite import Consume, Row, Runs
from tests.fixtures.tokens import days_ago
from tests.support.waiting import eventually

COUNT = 4000


@pytest.fixture
def environment(environment: dict[str, str], redis_url: str) -> dict[str, str]:
    return environment | {"REDIS_URL": redis_url}


@pytest.fixture(autouse=True)
def alive_again(servers: Servers, sessions: Sessions) -> Iterator[None]:
    yield
    servers.stack.up()


def fill(sessions: Sessions) -> None:
    with sessions.redis.pipeline(transaction=False) as pipeline:
        for number in range(COUNT):
            pipeline.set(f"user:session:{number}", session_of(days_ago(40 if number % 2 else -20)))
            pipeline.set(f"user:session:by-user-id:{number}", f"user:session:{number}")
        pipeline.execute()


def session_of(expires: datetime) -> str:
    return f'{{"expires": "{expires.isoformat()}"}}'


def restart(servers: Servers) -> None:
    kill(servers)
    servers.stack.up()


def kill(servers: Servers) -> None:
    pid = servers.stack.pid("redis")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def test_next_attempt_cleans_after_redis_was_killed(
    servers: Servers,
    consume: Consume,
    publisher: Publisher,
    runs: Runs,
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
):
    fill(sessions)
    scan, killed = SessionStore.scan, False

    async def scan_and_die(self: SessionStore, match: str, **how: Any) -> AsyncIterator[KeyPage]:
        nonlocal killed
        async for page in scan(self, match, **how):
            yield page
            if not killed and page.share > 0.3:
                killed = True
                await asyncio.to_thread(kill, servers)

    monkeypatch.setattr(SessionStore, "scan", scan_and_die)
    monkeypatch.setattr(redis_store, "PAGE", 200)

    async with consume():
        sent = await trigger.publish(publisher, CleanSessions())
        first = await runs.over(sent.message_id, within=30)
        await asyncio.to_thread(servers.stack.up)

        async def second() -> Row | None:
            rows = await runs.of(sent.message_id)
            return rows[1] if len(rows) > 1 and rows[1]["status"] != "running" else None

        last = await eventually(second, within=60)

    assert first["status"] == "failed"
    assert first["error"].startswith("Redis at 127.0.0.1:")
    assert "does not answer" in first["error"]
    assert (last["status"], last["attempt"]) == ("succeeded", 2)
    left = {f"user:session:{kind}{number}".encode() for kind in ("", "by-user-id:") for number in range(0, COUNT, 2)}
    assert sessions.keys() == left
    assert all(sessions.last_moment(f"user:session:{number}") for number in range(0, COUNT, 2))


async def test_cursor_is_never_used_after_an_unnoticed_restart(
    servers: Servers, redis_url: str, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
):
    fill(sessions)
    monkeypatch.setattr(redis_store, "PAGE", 200)

    async def scan_over_a_restart() -> None:
        async with connected(redis_url) as client, SessionStore(client) as store:
            async for page in store.scan("user:session:*"):
                if 0.3 < page.share < 0.6:
                    await asyncio.to_thread(restart, servers)

    with pytest.raises(ServerUnreachable, match="does not answer"):
        await scan_over_a_restart()


async def test_flushed_scripts_are_loaded_again(redis_url: str, sessions: Sessions, client: Redis):
    fill(sessions)

    async with connected(redis_url) as connection, SessionStore(connection) as store:
        pages = [page async for page in store.scan("user:session:1*")]
        await client.script_flush()
        found = await store.read(pages[0].keys[:5])
        pages += [page async for page in store.scan("user:session:1*")]

    assert len(found) == 5
    assert len(pages) > 1


async def test_run_after_a_killed_one_finishes_its_work(
    redis_url: str, sessions: Sessions, consume: Consume, publisher: Publisher, runs: Runs
):
    fill(sessions)
    async with connected(redis_url) as client, SessionStore(client) as store:
        async for page in store.scan("user:session:*"):
            keys = [key for key in page.keys if b"by-user-id" not in key]
            found = await store.read(keys)
            await store.change(
                [KeyChange(key, what) for key, what in zip(keys, found, strict=True) if key[-1:] in b"13579"]
            )
            break  # its pointers dangle now

    async with consume():
        sent = await trigger.publish(publisher, CleanSessions())
        row = await runs.over(sent.message_id, within=30)

    assert row["status"] == "succeeded"
    assert len(sessions.keys()) == COUNT
    assert row["statistics"]["pointers_deleted"] == COUNT // 2
