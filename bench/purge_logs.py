"""The purge on tables of a hundred thousand and of a million rows: seconds, and memory added.

    python -m bench.purge_logs                  both sizes
    python -m bench.purge_logs 100000           one of another size

A third of the rows each in inbox, outbox and update_logs; nine in ten are old. A second run, with nothing left to
delete, shows what looking costs. Each run is a process of its own on a server of its own.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from consumers.maintenance.purge.purge_logs import purge_logs
from consumers.maintenance.retention import RULES
from pocketwatch import settings
from pocketwatch.stack.stack import Stack
from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database
from pocketwatch.storage.run_log import Run
from pocketwatch.worker.context import JobContext
from schemas.envelope import Envelope
from schemas.ticks import PurgeLogs

SIZES = (100_000, 1_000_000)
# Nine in ten from 200 to 100 days ago, the rest within the last 20.
MOMENT = (
    "now() - CASE WHEN n <= {old} THEN interval '200 days' - interval '100 days' * n / {old} "
    "ELSE interval '20 days' - interval '20 days' * (n - {old}) / ({all} - {old}) END"
)
FILL = {
    "inbox": "INSERT INTO inbox SELECT 'a.job', gen_random_uuid(), {moment} FROM generate_series(1, {all}) n",
    "outbox": (
        "INSERT INTO outbox (message_id, exchange, routing_key, payload, created_at, available_at, sent_at) "
        "SELECT gen_random_uuid(), 'facts', 'ad.moderated', '{{\"ad_id\": 4711}}', {moment}, {moment}, {moment} "
        "FROM generate_series(1, {all}) n"
    ),
    "update_logs": (
        "INSERT INTO update_logs (job, message_id, trigger, started_at, finished_at, status, statistics, worker) "
        "SELECT 'moderation.review', gen_random_uuid(), 'event', {moment}, {moment}, 'succeeded', '{{\"n\": 1}}', 'a' "
        "FROM generate_series(1, {all}) n"
    ),
}


@dataclass(frozen=True)
class Figures:
    deleted: int
    seconds: float
    added: float  # MB of resident memory at its peak, above what the process needed before


def run(sizes: tuple[int, ...] = SIZES) -> list[tuple[int, Figures, Figures]]:
    """For each number of rows: the run that purges, and the one after it."""
    results = []
    with TemporaryDirectory(prefix="pocketwatch-bench-") as folder:
        stack = Stack(Path(folder), durable=True, echo=lambda _: None)
        with stack.lease() as urls:
            for rows in sizes:
                url = _fill(urls["DATABASE_URL"], rows)
                purged, again = _measured(url), _measured(url)
                assert purged.deleted == 3 * (rows // 3 * 9 // 10)
                assert again.deleted == 0
                results.append((rows, purged, again))
                print(_line(rows, purged), _line(rows, again), sep="\n", flush=True)
    return results


def _line(rows: int, figures: Figures) -> str:
    return f"{rows:>9,} rows  {figures.deleted:>8,} deleted  {figures.seconds:6.2f} s  +{figures.added:.1f} MB"


def _fill(server: str, rows: int) -> str:
    name = f"bench_{rows}"
    url = f"{server.rpartition('/')[0]}/{name}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    asyncio.run(_migrate(url))
    each = rows // 3
    old = each * 9 // 10
    moment = MOMENT.format(old=old, all=each)
    with psycopg.connect(url, autocommit=True) as connection:
        for table, statement in FILL.items():
            connection.execute(statement.format(moment=moment, all=each).encode())
            connection.execute(f"VACUUM ANALYZE {table}".encode())
        connection.execute("CHECKPOINT")
    return url


async def _migrate(url: str) -> None:
    database = Database(url)
    await migrate.migrate(database)
    await database.close()


def _measured(url: str) -> Figures:
    done = subprocess.run(
        [sys.executable, "-m", "bench.purge_logs", "--one", url], stdout=subprocess.PIPE, text=True, check=True
    )
    return Figures(**json.loads(done.stdout))


async def _one(url: str) -> Figures:
    database = Database(url)
    loaded = settings.load({"DATABASE_URL": url})
    async with database.begin() as connection:  # what any first query needs
        await connection.exec_driver_sql("SELECT 1")
    envelope = Envelope(message_id="a", correlation_id="a", exchange="ticks", routing_key="maintenance.purge_logs")
    run_of = Run("maintenance.purge_logs", envelope)
    job = JobContext(run_of, datetime.now(UTC), database=database, settings=loaded, stopping=lambda: False)
    before, began = _memory("VmRSS"), time.perf_counter()
    await purge_logs(PurgeLogs(), job)
    seconds = time.perf_counter() - began
    deleted = sum(job.statistics[rule.statistic] for rule in RULES)
    await database.close()
    return Figures(deleted, seconds, _memory("VmHWM") - before)


def _memory(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    assert found
    return int(found[1]) / 1024


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--one"]:
        print(json.dumps(asyncio.run(_one(arguments[1])).__dict__))
    else:
        run(tuple(map(int, arguments)) or SIZES)


if __name__ == "__main__":
    main(sys.argv[1:])
