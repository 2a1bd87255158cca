"""Persistent messages that the broker confirms: our Publisher and our relay against Celery and Dramatiq."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.table import Table

from bench import programs, rounds, sending, suite, table
from bench.peers import by_hand, work
from bench.rounds import Sample, alternate, contenders
from bench.servers import Say, Servers, WorkNotDone
from pocketwatch import command
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.publisher import Publisher

OF_LIMIT = 0.75
COUNT_TIMEOUT = 5.0  # seconds until the broker reports the final length of a queue


@dataclass(frozen=True)
class Side(rounds.Side):
    """How a contender publishes, and what its queue holds afterwards."""

    program: str = field(kw_only=True)
    verb: str = "publish"
    options: Sequence[str] = ()

    @property
    def queue(self) -> tuple[str, int]:
        """Return its name, and how many messages of the warm-up it holds."""
        return (suite.QUEUE.name, suite.WARM_UP) if self.ours else (work.QUEUE, work.WARM_UP)


SIDES = (
    Side(
        "Pocketwatch Publisher",
        f"{sending.IN_FLIGHT} in flight, each confirmed, mandatory",
        program="bench.suite",
        ours=True,
    ),
    Side(
        "Pocketwatch relay",
        "outbox rows taken, published and confirmed, marked as sent: 200 to a transaction",
        program="bench.suite",
        verb="relay",
        ours=True,
    ),
    Side("Celery", "apply_async with confirm_publish, one after the other", program="bench.peers.celery_app"),
    Side(
        "Celery, 10 threads",
        "the same from ten threads, a connection each",
        program="bench.peers.celery_app",
        options=("--threads", "10"),
    ),
    Side(
        "Dramatiq",
        "send with confirm_delivery, one after the other",
        program="bench.peers.dramatiq_app",
        package="dramatiq",
    ),
    Side(
        "by hand: aio-pika",
        f"{by_hand.IN_FLIGHT} in flight, each confirmed, mandatory",
        program="bench.peers.by_hand",
        limit=True,
    ),
)


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Compare: each run on its own vhost and database, to a quorum queue without consumers."""
    count = 500 if quick else 5_000
    compared = contenders(SIDES, lambda side: _measure(servers, side, count), say)
    results = alternate(compared, rounds=1 if quick else 3, warm_up=False, say=say)
    return table.compare(
        f"publish: {count:,} persistent, confirmed messages to a quorum queue",
        results,
        caption=[f"{table.versions('celery', 'dramatiq', 'aio-pika')}; {servers.versions()}; warm-up in each process"],
        count=count,
        of_limit=OF_LIMIT,
    )


def _measure(servers: Servers, side: Side, count: int) -> Sample:
    with servers.own() as (_, environment):
        done = programs.run(programs.module(side.program, side.verb, str(count), *side.options), environment)
        queue, warm_up = side.queue
        found = command.run(_messages(environment["RABBITMQ_URL"], queue, expected=warm_up + count))
        if found != warm_up + count:
            raise WorkNotDone(f"{side.name}: {found} messages on {queue}, should be {warm_up + count}")
    return Sample(**json.loads(done.output))


async def _messages(url: str, queue: str, *, expected: int) -> int:
    """Return how many messages a queue holds."""
    async with Publisher([url], role="bench") as looking:
        end = time.monotonic() + COUNT_TIMEOUT
        while True:
            state = await queue_info(looking.connection, queue)
            found = state[0] if state else 0
            if found >= expected or time.monotonic() > end:
                return found
            await asyncio.sleep(programs.POLL_INTERVAL)
