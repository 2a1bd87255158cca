"""Session clean-up on a private Redis: keys per second, and added memory.

    python -m bench.sessions [KEYS …]

Most keys are sessions and tokens without a TTL, a third of them long expired; some are unreadable, have a TTL, or
are pointers. Each count runs in a process of its own, first as a dry run and then for real; memory is the growth of the
process's peak (VmHWM) over what it had before its first page.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.asyncio import Redis as Client

from consumers.cleanup.sessions.redis_store import SessionStore
from consumers.cleanup.sessions.sessions import Counters, SessionCleaner
from pocketwatch.command import run as run_fast
from pocketwatch.settings import Servers, Settings
from pocketwatch.stack.stack import Stack
from pocketwatch.storage import migrate
from pocketwatch.storage.database import Database
from pocketwatch.storage.redis import connected
from pocketwatch.storage.run_log import Run
from pocketwatch.worker.context import JobContext
from schemas.envelope import Envelope
from schemas.ticks import CleanSessions

COUNTS = (50_000, 200_000, 1_000_000)
LOT = 5_000


def run(counts: tuple[int, ...] = COUNTS) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder), durable=False, echo=lambda _: None)
        with stack.lease() as urls:
            run_fast(migrate.migrate(Database(urls["DATABASE_URL"])))
            for count in counts:
                fill(urls["REDIS_URL"], count)
                arguments = json.dumps({"redis": urls["REDIS_URL"], "database": urls["DATABASE_URL"]})
                done = subprocess.run(
                    [sys.executable, "-m", "bench.sessions", "--clean", arguments],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                rows.append({"keys": count, **json.loads(done.stdout)})
        stack.down(wipe=True)
    return rows


def fill(url: str, count: int) -> None:
    client = Redis.from_url(url)
    client.flushdb()
    now = datetime.now(UTC)
    for start in range(0, count, LOT):
        pipeline = client.pipeline(transaction=False)
        for number in range(start, min(start + LOT, count)):
            for command in key(number, now):
                pipeline.execute_command(*command)
        pipeline.execute()
    client.close()


def key(number: int, now: datetime) -> Iterator[tuple[Any, ...]]:
    token, kind = uuid4().hex, number % 20
    expires = now + timedelta(days=-60 if number % 3 == 0 else 20 - number % 40)
    text = expires.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    value = json.dumps({"sessionToken": token, "userId": str(uuid4()), "expires": text})
    if kind < 9:
        yield "SET", f"user:session:{token}", value
    elif kind < 11:
        yield "SET", f"user:session:by-user-id:{uuid4()}", f"user:session:{token}"
    elif kind < 13:
        yield "SET", f"session:{token}", value
    elif kind < 14:
        yield "HSET", f"session:{token}", "sessionToken", token, "expires", text
    elif kind < 16:
        yield "SET", f"verification-token:{token}@example.org:{token}", value
    elif kind < 17:
        yield "SET", f"session:{token}", "{not json"
    elif kind < 18:
        yield "SET", f"session:{token}", value, "EX", 86_400
    else:
        yield "SET", f"user:{uuid4()}", json.dumps({"id": token, "email": f"{token}@example.org"})


async def clean(redis: str, database: str) -> dict[str, Any]:
    settings = Settings(servers=Servers(REDIS_URL=redis, DATABASE_URL=database))
    opened = Database(database)
    figures: dict[str, Any] = {}
    async with connected(redis) as client, SessionStore(client) as store:
        await store.read([b"a key"])
        before = peak()
        for name, dry_run in (("dry", True), ("real", False)):
            envelope = Envelope(message_id=str(uuid4()), correlation_id="", exchange="ticks", routing_key="")
            now = datetime.now(UTC)
            job = JobContext(
                Run("cleanup.sessions", envelope),
                now,
                database=opened,
                settings=settings,
                stopping=lambda: False,
                message=CleanSessions(dry_run=dry_run),
            )
            counters = Counters(settings.sessions.key_patterns)
            began, cpu = time.perf_counter(), time.process_time()
            server = await server_cpu(client)
            assert await SessionCleaner(store, job, counters, timedelta(days=30)).run()
            took = time.perf_counter() - began
            figures[f"{name}_s"] = round(took, 2)
            figures[f"{name}_cpu_s"] = round(time.process_time() - cpu, 2)
            figures[f"{name}_redis_cpu_s"] = round(await server_cpu(client) - server, 2)
            totals = counters.statistics()
            figures[f"{name}_keys_per_s"] = round(totals["scanned"] / took)
            del totals["patterns"]
        figures["added_peak_kb"] = peak() - before
    await opened.close()
    return figures | totals


async def server_cpu(client: Client) -> float:
    used = await client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def peak() -> int:
    """Return the peak memory of this process, in kilobytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--clean"]:
        print(json.dumps(run_fast(clean(**json.loads(sys.argv[2])))))
    else:
        for row in run(tuple(map(int, sys.argv[1:])) or COUNTS):
            print(json.dumps(row))
