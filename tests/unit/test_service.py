"""Background work of a process: a lost connection or a time limit does not end it, a bug does, with its name."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from pocketwatch import cancellation, service
from pocketwatch.cancellation import as_connection_lost
from pocketwatch.errors import PocketwatchError
from pocketwatch.service import Service, serve
from pocketwatch.settings import load


class Working(Service):
    """Does one thing in the background."""

    kind = "consume"

    def __init__(self, folder: Path, work: Callable[[], Awaitable[None]]) -> None:
        super().__init__(load({}, folder=folder))
        self._work = work

    async def _start(self) -> None:
        self._run_in_background("counting", self._work)


async def cancelled_call() -> None:
    """What aiormq does to a call that waits for an answer when a heartbeat is lost."""
    answer = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(answer.cancel)
    await answer


async def lost() -> None:
    raise ConnectionResetError("reset by peer")


async def slow() -> None:
    async with asyncio.timeout(0):
        await asyncio.sleep(1)


async def over_the_limit() -> None:
    """What SQLAlchemy makes of a statement that PostgreSQL's `statement_timeout` has ended."""
    raise DBAPIError("SELECT pg_sleep(9)", None, asyncpg.QueryCanceledError("canceling statement"))


@pytest.mark.parametrize("trouble", [cancelled_call, lost, slow, over_the_limit])
async def test_background_work_goes_on_after_a_lost_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines, trouble: Callable[[], Awaitable[None]]
):
    monkeypatch.setattr(service, "RESTART_DELAY", 0.0)
    turns = 0
    again = asyncio.Event()

    async def work() -> None:
        nonlocal turns
        turns += 1
        if turns == 1:
            await trouble()
        again.set()
        await asyncio.Event().wait()

    async with Working(tmp_path, work) as working:
        await asyncio.wait_for(again.wait(), 5)

        assert not working.background[0].done()
    assert [line["task"] for line in log_lines if line["event"] == "service.background_task_restarted"] == ["counting"]


async def test_bug_in_background_work_ends_the_process_with_its_name(tmp_path: Path):
    async def work() -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(PocketwatchError) as caught:
        await serve([Working(tmp_path, work)], load({}, folder=tmp_path))

    assert "the background task counting ended: ZeroDivisionError('a bug')" in str(caught.value)


async def test_own_cancellation_is_no_lost_connection():
    async def work() -> None:
        with as_connection_lost():
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_service_ends_although_a_cancellation_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As `asyncio.wait_for` of Python 3.11 loses one that comes with the answer."""
    monkeypatch.setattr(cancellation, "CANCEL_AGAIN", 0.01)
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    async with Working(tmp_path, work):
        await asyncio.sleep(0)

    assert lost == 2
