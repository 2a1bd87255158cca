"""Ticks without work, through the whole worker with a row of the log: our job executor against Celery with results.

    python -m bench ticks

python -m bench.ticks consume      the consumer, as production runs one
python -m bench.ticks fill 1000    ticks for it
"""

import os
import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rich.table import Table

from bench import backlog, sending, table
from bench.rounds import Sample, alternate, contenders
from bench.servers import Say, Servers, WorkNotDone
from pocketwatch import command, logs, settings
from pocketwatch.service import serve
from pocketwatch.worker.app import ConsumerApp
from pocketwatch.worker.consumer import Consumer, consumer
from pocketwatch.worker.context import JobContext
from schemas.message import Tick

TARGET = 1.5
WARM_UP = 50
PEER = "bench.peers.celery_ticks"
CELERY = ("celery", "-A", PEER, "worker", "--without-gossip", "--without-mingle", "--pool", "prefork")


def _job_without_work(name: str) -> Consumer:
    """Return a job of one's own, with its tick and its queue."""
    members = {"__module__": __name__, "__annotations__": {"routing_key": ClassVar[str]}, "routing_key": name}

    async def do_nothing(tick: Any, job: JobContext) -> None:
        """Find nothing to do."""

    do_nothing.__annotations__["tick"] = type("DoNothing", (Tick,), members)
    return consumer(do_nothing)


COUNT_OF_JOBS = 8  # a schedule has some dozens of them
JOBS = [_job_without_work(f"bench.tick_{number}") for number in range(COUNT_OF_JOBS)]


@dataclass(frozen=True)
class Side(backlog.Side):
    """A worker, the table in which it logs, and what identifies a message there."""

    log: str = field(kw_only=True)
    id: str = field(kw_only=True)

    @property
    def done(self) -> str:
        """The statement that counts the rows that say that a tick has ended."""
        return f"SELECT count(*) FROM {self.log}"

    @property
    def each(self) -> str:
        """The statement that counts the ticks that these rows name."""
        return f"SELECT count(DISTINCT {self.id}) FROM {self.log}"


RESULTS = "celery_taskmeta WHERE status = 'SUCCESS'"
SIDES = (
    Side(
        "Pocketwatch",
        f"{COUNT_OF_JOBS} jobs, each one tick at a time; its log row says running, then succeeded, with the claim",
        ("bench.ticks", "consume"),
        fill="bench.ticks",
        log="update_logs WHERE status = 'succeeded'",
        id="message_id",
        ours=True,
    ),
    Side(
        "Pocketwatch, 2 processes",
        "the same, half of the jobs each, as groups have processes of their own",
        ("bench.ticks", "consume"),
        fill="bench.ticks",
        log="update_logs WHERE status = 'succeeded'",
        id="message_id",
        processes=2,
        ours=True,
    ),
    *(
        Side(
            f"Celery, {count} process{'es' * (count > 1)}",
            "prefork, acks_late, prefetch 12 each; a result row, by its database backend",
            (*CELERY, "--concurrency", str(count)),
            fill=PEER,
            log=RESULTS,
            id="task_id",
        )
        for count in (1, 2)
    ),
)


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Until the last row says that its tick has ended."""
    count = 200 if quick else 2_000
    compared = contenders(SIDES, lambda side: _measure(servers, side, count), say)
    results = alternate(compared, rounds=1 if quick else 3, warm_up=False, say=say)
    return table.compare(
        f"ticks: {count:,} ticks without work on quorum queues, until the last is logged as ended",
        results,
        caption=[f"{table.versions('celery', 'sqlalchemy', 'psycopg')}; {servers.versions()}; {WARM_UP} to warm up"],
        count=count,
        target=TARGET,
    )


def _measure(servers: Servers, side: Side, count: int) -> Sample:
    with servers.own() as (database, environment):
        with backlog.waiting(
            servers, side, count, warm_up=WARM_UP, done=side.done, database=database, environment=environment
        ) as work:
            sample = work.measure(WARM_UP + count)
        found = servers.ask(side.done, database), servers.ask(side.each, database)
        if found != ((WARM_UP + count,),) * 2:
            raise WorkNotDone(f"{side.name}: {found} rows and ticks, should be {WARM_UP + count}")
    return sample


def main(verb: str, count: int) -> None:
    if verb == "fill":
        ticks = (JOBS[number % COUNT_OF_JOBS].message_type() for number in range(count))
        command.run(sending.fill(ticks, *(each.queue for each in JOBS)))
        return
    loaded = settings.load()
    logs.configure(loaded.logging)
    part, parts = map(int, os.environ.get("BENCH_PART", "0/1").split("/"))
    command.run(serve([ConsumerApp(loaded, JOBS[part::parts], role="bench")], loaded))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
