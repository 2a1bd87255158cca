"""Step boundaries: a process strikes when it comes before, into the middle of, or behind a step of its part.

The steps are functions of the suite, which are wrapped in the process under test; nothing in them is replaced.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from consumers.cleanup.sessions.redis_store import SessionStore
from pocketwatch.broker.publisher import Publisher
from pocketwatch.smtp.pool import SmtpPool
from pocketwatch.storage import fires, inbox, outbox
from pocketwatch.storage.database import Database
from pocketwatch.worker.acknowledger import Deliveries
from pocketwatch.worker.executors import BatchExecutor, JobExecutor, SideEffectExecutor
from publishers.relay import Relay
from publishers.ticker import Ticker

Reach = Callable[[str], None]  # takes the side: before, during, after
Step = Callable[[Reach], None]  # has this called at each side of the step


TURNS = 4  # of the event loop, until a request is on its way


@dataclass(frozen=True)
class Boundary:
    """A side of a step of a part: `relay: during publish`."""

    part: str
    side: str
    step: str

    def __str__(self) -> str:
        return f"{self.part}: {self.side} {self.step}"


def calls_of(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True, *, answered: bool = False) -> Step:
    """The step is an asynchronous function.

    Args:
        when: which of its calls, by their arguments.
        answered: it waits for a server, which may have done what was asked when it or we die: it has a middle.
    """

    def wrap(reach: Reach) -> None:
        original = getattr(owner, name)

        async def step(*arguments: Any, **named: Any) -> Any:
            if not when(*arguments):
                return await original(*arguments, **named)
            reach("before")
            work = original(*arguments, **named)
            result = await (_in_the_middle(work, reach) if answered else work)
            reach("after")
            return result

        setattr(owner, name, step)

    return wrap


def commits_of(owner: Any, name: str) -> Step:
    """The step is the commit of the transaction that this function begins."""
    inside = ContextVar("inside", default=False)

    def wrap(reach: Reach) -> None:
        original, begin = getattr(owner, name), Database.begin

        async def scope(*arguments: Any, **named: Any) -> Any:
            token = inside.set(True)
            try:
                return await original(*arguments, **named)
            finally:
                inside.reset(token)

        @asynccontextmanager
        async def transaction(database: Database) -> AsyncIterator[AsyncConnection]:
            if not inside.get():
                async with begin(database) as connection:
                    yield connection
                return
            opened: AbstractAsyncContextManager[AsyncConnection] = begin(database)
            connection = await opened.__aenter__()
            try:
                yield connection
            except BaseException:
                if not await opened.__aexit__(*sys.exc_info()):
                    raise
                return
            reach("before")
            await _in_the_middle(opened.__aexit__(None, None, None), reach)
            reach("after")

        setattr(owner, name, scope)
        Database.begin = transaction  # type: ignore[method-assign]

    return wrap


async def _in_the_middle(work: Any, reach: Reach) -> Any:
    """Begin the work, strike before it has an answer, and finish it."""
    task = asyncio.ensure_future(work)
    try:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if not task.done():
            reach("during")
        return await task
    except asyncio.CancelledError:
        task.cancel()
        raise


def _is(name: str) -> Callable[..., bool]:
    return lambda _executor, function, _items: function.__name__ == name


ACKNOWLEDGE = calls_of(Deliveries, "send")
STEPS: dict[str, dict[str, Step]] = {
    "ticker": {
        "record": calls_of(fires, "record"),
        "commit": commits_of(Ticker, "tick"),
        "lock ahead": calls_of(outbox, "claim_ahead"),
    },
    "relay": {
        "claim": calls_of(outbox, "claim"),
        "publish": calls_of(Publisher, "publish_all", answered=True),
        "mark": calls_of(outbox, "mark_sent"),
        "commit": commits_of(Relay, "send_batch"),
    },
    "job": {
        "start": calls_of(JobExecutor, "_start"),
        "effect": calls_of(JobExecutor, "_handle_until_stopped"),
        "claim": calls_of(inbox, "claim"),
        "commit": calls_of(AsyncSession, "commit", answered=True),
        "acknowledge": ACKNOWLEDGE,
    },
    "batch": {
        "claim": calls_of(inbox, "claim"),
        "effect": calls_of(BatchExecutor, "_run"),
        "commit": commits_of(BatchExecutor, "_commit"),
        "acknowledge": ACKNOWLEDGE,
    },
    "side effect": {
        "claim": calls_of(SideEffectExecutor, "_transact", _is("claim")),
        "effect": calls_of(SmtpPool, "send", answered=True),
        "log": calls_of(SideEffectExecutor, "_transact", _is("record_result")),
        "commit": commits_of(BatchExecutor, "_commit"),
        "acknowledge": ACKNOWLEDGE,
    },
    "sessions": {
        "start": calls_of(JobExecutor, "_start"),
        "delete": calls_of(SessionStore, "change", answered=True),
        "commit": calls_of(AsyncSession, "commit", answered=True),
        "acknowledge": ACKNOWLEDGE,
    },
}
WITH_MIDDLE = {
    ("relay", "publish"),
    ("side effect", "effect"),
    ("sessions", "delete"),
    *((part, "commit") for part in STEPS),
}


def boundaries(part: str) -> list[Boundary]:
    """Return the boundaries of a part, in the order in which a message passes them."""
    found = []
    for step in STEPS[part]:
        sides = ("before", "during", "after") if (part, step) in WITH_MIDDLE else ("before", "after")
        found += [Boundary(part, side, step) for side in sides]
    return found


def watch(part: str, reach: Callable[[Boundary], None]) -> None:
    """Have this called at every boundary of a part, in this process."""

    def at(step: str) -> Reach:
        return lambda side: reach(Boundary(part, side, step))

    for step, wrap in STEPS[part].items():
        wrap(at(step))
