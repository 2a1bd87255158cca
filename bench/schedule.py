"""From the instant at which an entry is due to the arrival of its message: our publisher against an exact sleep.

instant ─► ticker ─► fires and outbox ─► relay ─► RabbitMQ ─► a plain consumer, which notes the time

python -m bench schedule
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from statistics import median

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from rich.table import Table

from bench import memory, programs, sending, table
from bench.programs import module
from bench.rounds import Contender, Sample, alternate
from bench.servers import FOLDER, Say, Servers, WorkNotDone
from pocketwatch import command
from schemas.envelope import DUE_AT
from schemas.ticks import CleanRates

TARGET = 1.5  # times the median of the exact sleep, at most
START = 60.0  # seconds in which a publisher must have started
OURS, LIMIT = "Pocketwatch", "by hand: exact sleep"
DOES = {
    OURS: "`pocketwatch publish`: the fire and its message in one transaction, then the relay; confirmed, marked",
    LIMIT: "sleeps, publishes with aio-pika, confirmed; records nothing",
}
ENTRY = """
[[entry]]
name = "bench-{number}"
cron = "*/{period} * * * * *"
job = "{job}"
why = "the bench notes when it arrives"
"""


@dataclass(frozen=True)
class Load:
    """How many entries are due at each instant, and how many instants are measured in a round."""

    entries: int
    period: int  # seconds
    instants: int

    @property
    def messages(self) -> int:
        """Those of the first instant are not measured: it opens connections."""
        return (self.instants + 1) * self.entries

    @property
    def schedule(self) -> str:
        """The schedule file."""
        entries = (ENTRY.format(number=n, period=self.period, job=CleanRates.routing_key) for n in range(self.entries))
        return 'timezone = "UTC"\n' + "".join(entries)


FULL, QUICK = (Load(1, 1, 20), Load(500, 5, 3)), (Load(1, 1, 3), Load(500, 5, 1))


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Compare for an entry each second, and for many at once."""
    found = table.blank("schedule: from the due instant to the arrival at a consumer")
    for column in ("due at once", "contender", "median ms", "99 % ms", "worst ms", "messages"):
        found.add_column(column, justify="left" if column == "contender" else "right")
    found.add_column("what it does", overflow="fold", ratio=1)
    verdicts = []
    for load in QUICK if quick else FULL:
        delays: dict[str, list[float]] = {OURS: [], LIMIT: []}
        compared = [
            Contender(name, DOES[name], partial(_measure, servers, name, load, seen)) for name, seen in delays.items()
        ]
        say(f"  {load.entries} due every {load.period} s")
        alternate(compared, rounds=1 if quick else 3, warm_up=False, say=say)
        for name, seen in delays.items():
            style = "bold" if name == OURS else None
            found.add_row(str(load.entries), name, *milliseconds(seen), str(len(seen)), DOES[name], style=style)
        times = median(delays[OURS]) / median(delays[LIMIT])
        verdicts.append(f"{load.entries} due at once {'met' if times <= TARGET else 'MISSED'} ({times:.2f})")
    target = f"target: at most {TARGET:g} times the median of the exact sleep: {'; '.join(verdicts)}"
    found.caption = f"{table.versions('aio-pika')}; {servers.versions()}\n{table.machine()}\n{target}"
    return found


def milliseconds(delays: Sequence[float]) -> list[str]:
    """Return the median, the 99th percentile and the longest delay."""
    ordered = sorted(delays)
    chosen = median(ordered), ordered[round(0.99 * (len(ordered) - 1))], ordered[-1]
    return [f"{delay * 1000:.1f}" for delay in chosen]


def _measure(servers: Servers, name: str, load: Load, seen: list[float]) -> Sample:
    """Let a publisher run for some instants, and add the delays that are seen."""
    file = FOLDER / "schedule.toml"
    file.write_text(load.schedule)
    publisher = {
        OURS: module("pocketwatch", "publish"),
        LIMIT: module("bench.peers.exact_sleep", str(load.period), str(load.entries)),
    }[name]
    with servers.own(POCKETWATCH_SCHEDULE=str(file)) as (_, environment):
        programs.run(module("bench.schedule"), environment)
        with programs.working(publisher, environment) as worker:
            try:
                arrived = command.run(arrivals(environment["RABBITMQ_URL"], load))
            except TimeoutError:
                raise WorkNotDone(f"{name}: not all arrived: {worker.log.read_text()[-1000:]}") from None
            peak = memory.peak(worker.pid)
    first = _check(name, load, sorted(due for due, _ in arrived))
    delays = [delay for due, delay in arrived if due > first]
    seen += delays
    return Sample(median(delays), peak=peak)


async def arrivals(url: str, load: Load) -> list[tuple[float, float]]:
    """Return the instant and the delay of each message, in seconds, in the order of arrival."""
    arrived: list[tuple[float, float]] = []
    complete = asyncio.Event()

    async def note(message: AbstractIncomingMessage) -> None:
        now, due = time.time(), datetime.fromisoformat(str(message.headers[DUE_AT])).timestamp()
        arrived.append((due, now - due))
        if len(arrived) == load.messages:
            complete.set()

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(CleanRates.routing_key)
        await queue.consume(note, no_ack=True)
        async with asyncio.timeout(START + (load.instants + 1) * load.period):
            await complete.wait()
    return arrived[: load.messages]


def _check(name: str, load: Load, dues: Sequence[float]) -> float:
    """Check that each entry was published once at each of the instants; return the first of them."""
    first = dues[0]
    should = [first + load.period * number for number in range(load.instants + 1) for _ in range(load.entries)]
    if dues != should:
        raise WorkNotDone(
            f"{name}: {len(set(dues))} instants, should be {load.instants + 1} of {load.entries} messages"
        )
    return first


if __name__ == "__main__":
    command.run(sending.fill([]))  # which declares the queues
