"""The watchdog's service: it takes the lease, looks, gives the lease back, and pings a monitor outside."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from pocketwatch.settings import Settings
from pocketwatch.watchdog import external_monitor
from pocketwatch.watchdog.app import Pace, WatchdogApp
from pocketwatch.watchdog.check import Check, Look, Problem
from tests.fixtures.banks import Reply, TestBank
from tests.fixtures.watched import Watched
from tests.support.waiting import eventually

QUICKLY = Pace(
    look=timedelta(seconds=0.1),
    renew=timedelta(seconds=0.1),
    lease=timedelta(seconds=30),
    ping=timedelta(seconds=0.1),
)
LEASE = "SELECT looked_at IS NOT NULL AS looked, expires_at > now() AS held FROM watchdog_lease"


def lines_of(monitor: TestBank) -> list[str]:
    """Return the paths that were requested."""
    return [request.split(" ")[1] for request in monitor.requests]


async def test_active_watchdog_pings_the_monitor_and_says_when_something_urgent_is_wrong(
    settings: Settings, watched: Watched, bank: TestBank
):
    broken = False

    async def find(_: Look) -> AsyncIterator[Problem]:
        if broken:
            yield Problem("it", "is broken", "repair it")

    running = settings.running.model_copy(update={"heartbeat_url": bank.url})
    changed = settings.model_copy(update={"running": running})

    async def last(path: str) -> bool:
        return lines_of(bank)[-1:] == [path]

    async with WatchdogApp(changed, [Check("broken", find)], pace=QUICKLY):
        await eventually(lambda: last("/rates?json"))
        broken = True
        await eventually(lambda: last("/rates/fail?json"))
        broken = False
        await eventually(lambda: last("/rates?json"))
        (lease,) = watched.rows(LEASE)
    (released,) = watched.rows(LEASE)

    assert lease == {"looked": True, "held": True}
    assert released == {"looked": True, "held": False}


async def test_watchdog_without_the_lease_neither_looks_nor_pings(settings: Settings, watched: Watched, bank: TestBank):
    async def find(_: Look) -> AsyncIterator[Problem]:
        yield Problem("it", "is broken", "repair it")

    running = settings.running.model_copy(update={"heartbeat_url": bank.url})
    changed = settings.model_copy(update={"running": running})
    watched.execute("INSERT INTO watchdog_lease (process, expires_at) VALUES ('another:1', now() + interval '1 hour')")

    async with WatchdogApp(changed, [Check("broken", find)], pace=QUICKLY):
        assert watched.incidents() == []
        watched.execute("UPDATE watchdog_lease SET expires_at = now()")

        async def opened() -> bool:
            return bool(watched.incidents())

        await eventually(opened)

    assert all(path.startswith("/rates/fail") for path in lines_of(bank))


@pytest.mark.parametrize(
    ("reply", "reason"), [(Reply(b"", status=500), "answered 500"), (Reply(b"", cut_after=0), None)]
)
async def test_monitor_that_fails_is_logged_without_its_url(
    bank: TestBank, log_lines: list[dict[str, Any]], reply: Reply, reason: str | None
):
    bank.says(reply)

    await external_monitor.ping(bank.url, failing=False)
    await external_monitor.ping("http://127.0.0.1:9/secret", failing=False)

    reasons = [line["reason"] for line in log_lines if line["event"] == "watchdog.ping_failed"]
    assert reasons == [*([reason] if reason else []), "ConnectError"]
    assert "secret" not in str(log_lines)
