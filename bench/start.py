"""From the start of a process to its first handled message, which waits on the queue; and the memory of an idle one.

    python -m bench start

python -m bench.start fill 1      messages for our consumers
"""

import sys
import time
from dataclasses import dataclass, field

import psycopg
from rich.table import Table

from bench import backlog, events, memory, programs, sending, table
from bench.backlog import Backlog
from bench.programs import module
from bench.rounds import Contender, Sample, alternate, contenders
from bench.servers import Say, Servers
from pocketwatch import command
from schemas.ticks import CleanRates

LIGHTEST = "rates"  # the group whose process needs the least memory
SETTLED = 2.0  # seconds after the first message, until memory is looked at
RUNS = "SELECT count(*) FROM update_logs WHERE status = 'succeeded'"


@dataclass(frozen=True)
class Side(backlog.Side):
    """A worker, and how to count the messages that it has handled."""

    done: str = field(kw_only=True)


SIDES = (
    Side(
        f"pocketwatch consume {LIGHTEST}",
        f"one group, the lightest; until a run of {CleanRates.routing_key} without rows has succeeded",
        ("pocketwatch", "consume", LIGHTEST),
        fill="bench.start",
        done=RUNS,
        ours=True,
    ),
    Side(
        "pocketwatch consume",
        "all groups in one process; until the same",
        ("pocketwatch", "consume"),
        fill="bench.start",
        done=RUNS,
        ours=True,
    ),
    Side(
        "Celery, 1 process",
        "prefork: a parent and a child; until the task has written a row",
        (*events.CELERY, "--pool", "prefork", "--concurrency", "1"),
        fill="bench.peers.celery_app",
        done=events.ROWS,
    ),
)


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Compare: each start with a message on a queue of its own vhost."""
    compared = contenders(SIDES, lambda side: _measure(servers, side), say)
    compared.append(Contender("pocketwatch --help", "until it has ended", lambda: _help(servers), ours=True))
    results = alternate(compared, rounds=1 if quick else 7, warm_up=not quick, say=say)
    found = table.blank("start: from the start of the process to the first message handled, and idle memory")
    for column in ("program", "s", "spread", "idle MB"):
        found.add_column(column, justify="left" if column == "program" else "right")
    found.add_column("what it does", overflow="fold", ratio=1)
    for result in results:
        idle, _, _ = table.memories(result)
        style = "bold" if result.contender.ours else None
        speeds = table.speeds(result, None)
        found.add_row(result.contender.name, *speeds, idle, result.contender.does, style=style)
    found.caption = f"{table.versions('celery')}; {servers.versions()}\n{table.machine()}"
    return found


def _measure(servers: Servers, side: Side) -> Sample:
    with (
        servers.own() as (database, environment),
        psycopg.connect(servers.url(database), autocommit=True) as connection,
    ):
        servers.ask(events.TABLE, database)
        programs.run(module(side.fill, "fill", "1"), environment)
        began = time.perf_counter()
        with programs.working(module(*side.worker), environment) as worker:
            Backlog([worker], connection, side.done).until(1, every=0)
            seconds = time.perf_counter() - began
            time.sleep(SETTLED)
            return Sample(seconds, peak=memory.peak(worker.pid), idle=memory.resident(worker.pid))


def _help(servers: Servers) -> Sample:
    done = programs.run(module("pocketwatch", "--help"), servers.environment())
    return Sample(done.seconds, peak=done.peak)


def main(verb: str, count: int) -> None:
    assert verb == "fill", verb
    command.run(sending.fill([CleanRates()] * count))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
