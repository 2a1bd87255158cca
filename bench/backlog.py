"""A backlog: how long a warm worker takes to handle the messages that wait on its queue."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import psycopg

from bench import memory, programs, rounds
from bench.programs import Worker, module
from bench.rounds import Sample
from bench.servers import Servers

POLL_INTERVAL = 0.05  # seconds
PAUSE = 0.5  # seconds in which the last messages of the warm-up are acknowledged and logged
WITHIN = 1_200.0


@dataclass(frozen=True)
class Side(rounds.Side):
    """How a contender's worker is started, and by which module its queue is filled."""

    worker: Sequence[str]
    fill: str = field(kw_only=True)
    before: int = field(default=0, kw_only=True)  # messages that wait when it starts, too many to freeze it meanwhile
    processes: int = field(default=1, kw_only=True)  # of the worker; each has a part: BENCH_PART=0/2


@dataclass(frozen=True)
class Backlog:
    """A worker with messages on its queue.

    Args:
        done: the statement that counts what it has done.
    """

    workers: Sequence[Worker]
    connection: psycopg.Connection
    done: str

    def measure(self, count: int) -> Sample:
        """Wait until this number is done; the peak is that since `forget_peak`."""
        idle, began = sum(memory.resident(each.pid) for each in self.workers), time.perf_counter()
        self.until(count)
        seconds = time.perf_counter() - began
        return Sample(seconds, peak=sum(memory.peak(each.pid) for each in self.workers), idle=idle)

    def until(self, count: int, *, every: float = POLL_INTERVAL) -> None:
        def all_are_done() -> bool:
            time.sleep(every)  # counting costs the machine something, too; the more, the more there is to count
            found = self.connection.execute(self.done.encode()).fetchone()
            self.connection.rollback()
            return found is not None and found[0] >= count

        self.workers[0].until(all_are_done, within=WITHIN)


@contextmanager
def waiting(
    servers: Servers,
    side: Side,
    count: int,
    *,
    warm_up: int,
    done: str,
    database: str,
    environment: Mapping[str, str],
) -> Iterator[Backlog]:
    """Start a worker, which is frozen while its queue is filled; it has opened its connections and loaded its code.

    Args:
        warm_up: messages handled beforehand.
    """
    programs.run(module(side.fill, "fill", str(warm_up + side.before)), environment)
    command = module(*side.worker)
    with ExitStack() as stack, psycopg.connect(servers.url(database)) as connection:
        parts = [{**environment, "BENCH_PART": f"{number}/{side.processes}"} for number in range(side.processes)]
        workers = [stack.enter_context(programs.working(command, part)) for part in parts]
        backlog = Backlog(workers, connection, done)
        backlog.until(warm_up)
        time.sleep(PAUSE)
        with ExitStack() as held:
            for worker in workers:
                held.enter_context(worker.held())
            if count:
                programs.run(module(side.fill, "fill", str(count)), environment)
            servers.settle(database)
            for worker in workers:
                memory.forget_peak(worker.pid)
        yield backlog
