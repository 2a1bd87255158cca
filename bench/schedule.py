"""From the instant at which an entry is due to the arrival of its message: our publisher against an exact sleep.

instant ─► ticker ─► fires and outbox ─► relay ─► RabbitMQ ─► a plain consumer, which notes the time

python -m bench schedule
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from statistics import median

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from rich.table import Table

from bench import backlog, events, memory, programs, sending, table
from bench.programs import module
from bench.rounds import Contender, Sample, alternate
from bench.servers import FOLDER, Say, Servers, WorkNotDone
from pocketwatch import command
from schemas.envelope import DUE_AT
from schemas.ticks import CleanRates

TARGET = 1.5  # times the median of the exact sleep, at most
START = 60.0  # seconds in which a publisher must have started
HANDLED_A_SECOND = 8_000  # events, at most, on cores that are also busy with what these cause
BUSY, KILLED = "under full consumer load", "one of two tickers killed"
OURS, LIMIT = "Pocketwatch", "by hand: exact sleep"
DOES = {
    OURS: "`pocketwatch publish`: the fire and its message in one transaction, then the relay; confirmed, marked",
    LIMIT: "sleeps, publishes with aio-pika, confirmed; records nothing",
}
# How this differs where something happens besides.
DIFFERS = {
    (OURS, BUSY): "the same; its relay also publishes what the events cause",
    (LIMIT, BUSY): "the same; what the events cause is published by `pocketwatch publish` beside it",
    (OURS, KILLED): "two of it, of which one is killed (`kill -9`) halfway; each fire arrives once",
    (LIMIT, KILLED): "undisturbed: killed, it would lose every later fire, and two would double each",
}
ENTRY = """
[[entry]]
name = "bench-{number}"
cron = "*/{period} * * * * *"
job = "{job}"
why = "the bench notes when it arrives"
"""
NOTHING_DUE = ENTRY.format(number=0, period=1, job=CleanRates.routing_key) + "enabled = false\n"


@dataclass(frozen=True)
class Load:
    """How many entries are due at each instant, how many instants are measured in a round, and what happens besides."""

    entries: int
    period: int  # seconds
    instants: int
    besides: str | None = None

    @property
    def situation(self) -> str:
        return f"{self.entries}, {self.besides}" if self.besides else str(self.entries)

    @property
    def messages(self) -> int:
        """Those of the first instant are not measured: it opens connections."""
        return (self.instants + 1) * self.entries

    @property
    def schedule(self) -> str:
        """The schedule file."""
        entries = (ENTRY.format(number=n, period=self.period, job=CleanRates.routing_key) for n in range(self.entries))
        return 'timezone = "UTC"\n' + "".join(entries)


FULL = (Load(1, 1, 20), Load(500, 5, 3), Load(1, 1, 20, BUSY), Load(1, 1, 20, KILLED))
QUICK = (Load(1, 1, 3), Load(500, 5, 1), Load(1, 1, 3, BUSY), Load(1, 1, 3, KILLED))


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Compare for an entry each second, for many at once, on busy cores, and when a publisher dies."""
    found = table.blank("schedule: from the due instant to the arrival at a consumer")
    for column in ("due at once", "contender", "median ms", "99 % ms", "worst ms", "messages"):
        found.add_column(column, justify="left" if column in {"due at once", "contender"} else "right")
    found.add_column("what it does", overflow="fold", ratio=1)
    verdicts = []
    for load in QUICK if quick else FULL:
        delays: dict[str, list[float]] = {OURS: [], LIMIT: []}
        does = {name: DIFFERS.get((name, load.besides or ""), DOES[name]) for name in delays}
        compared = [
            Contender(name, does[name], partial(_measure, servers, name, load, seen)) for name, seen in delays.items()
        ]
        say(f"  due every {load.period} s: {load.situation}")
        alternate(compared, rounds=1 if quick else 3, warm_up=False, say=say)
        for name, seen in delays.items():
            style = "bold" if name == OURS else None
            found.add_row(load.situation, name, *milliseconds(seen), str(len(seen)), does[name], style=style)
        times = median(delays[OURS]) / median(delays[LIMIT])
        verdicts.append(f"{load.situation} {'met' if times <= TARGET else 'MISSED'} ({times:.2f})")
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
    with servers.own(POCKETWATCH_SCHEDULE=str(file)) as (database, environment), ExitStack() as stack:
        programs.run(module("bench.schedule"), environment)
        is_killed = (name, load.besides) == (OURS, KILLED)
        workers = [stack.enter_context(programs.working(publisher, environment)) for _ in range(1 + is_killed)]
        if load.besides == BUSY:
            if name == LIMIT:
                stack.enter_context(_relaying(environment))
            stack.enter_context(_busy(servers, load, database, environment))
        try:
            arrived = command.run(
                arrivals(environment["RABBITMQ_URL"], load, halfway=workers[0].process.kill if is_killed else None)
            )
        except TimeoutError:
            raise WorkNotDone(f"{name}: not all arrived: {workers[-1].log.read_text()[-1000:]}") from None
        peak = memory.peak(workers[-1].pid)
    first = _check(name, load, sorted(due for due, _ in arrived))
    delays = [delay for due, delay in arrived if due > first]
    seen += delays
    return Sample(median(delays), peak=peak)


@contextmanager
def _busy(servers: Servers, load: Load, database: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Let a consumer work through a backlog of events, which must outlast the block."""
    servers.ask(events.TABLE, database)
    side, warm_up = events.SIDES[0], events.WARM_UP
    count = HANDLED_A_SECOND * (load.instants + 2) * load.period
    with backlog.waiting(
        servers, side, count, warm_up=warm_up, done=events.ROWS, database=database, environment=environment
    ):
        yield
        (handled,) = servers.ask(events.ROWS, database)
        if handled == warm_up + count:
            raise WorkNotDone(f"the backlog of {count:,} events ended before the measurement")


@contextmanager
def _relaying(environment: Mapping[str, str]) -> Iterator[None]:
    """Publish what the events cause."""
    file = FOLDER / "nothing_due.toml"
    file.write_text(NOTHING_DUE)
    own = {**environment, "POCKETWATCH_SCHEDULE": str(file)}
    with programs.working(module("pocketwatch", "publish"), own):
        yield


async def arrivals(url: str, load: Load, *, halfway: Callable[[], None] | None = None) -> list[tuple[float, float]]:
    """Return the instant and the delay of each message that is due from now on, in seconds, in the order of arrival.

    Args:
        halfway: called between two instants. At one, it could kill a relay that has published a message and not yet
            marked it as sent; the next relay then publishes it again under its id.
    """
    arrived: list[tuple[float, float]] = []
    complete, began = asyncio.Event(), time.time()

    async def note(message: AbstractIncomingMessage) -> None:
        now, due = time.time(), datetime.fromisoformat(str(message.headers[DUE_AT])).timestamp()
        if due < began:  # it waited for this consumer
            return
        arrived.append((due, now - due))
        if halfway is not None and len(arrived) == load.messages // 2:
            asyncio.get_running_loop().call_later(load.period / 2, halfway)
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
