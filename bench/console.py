"""The console with many runs stored: each page of the browser, some commands, and the migration.

    python -m bench console                      a thousand and a million runs
    python -m bench.console 1000 100000          other numbers

The pages are those of the application's own routes. `pocketwatch web` answers one request at a time, all pages in turn,
so that no page finds a warm cache of its own; the time is that of a client, from the request to the end of the answer.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aio_pika
import httpx
import psycopg
from psycopg.rows import dict_row
from rich.console import Console
from rich.table import Table
from starlette.routing import Route

from bench import programs, table
from bench.console_rows import Size, fill
from bench.servers import PROJECT, Say, Servers, WorkNotDone, started
from console.web import pages
from console.web.server import STARTED
from pocketwatch import command
from pocketwatch.broker.publisher import Publisher
from schemas import envelope as metadata

SIZES, QUICK = (1_000, 1_000_000), (2_000,)
ROUNDS, COMMAND_ROUNDS = 30, 3
TARGET = 100  # milliseconds for any page
STARTUP = 60.0  # seconds
# A connection that the server is about to close is not used again.
CLIENT: dict[str, Any] = {"trust_env": False, "timeout": 60, "limits": httpx.Limits(keepalive_expiry=2)}
PREVIOUS = "2026_11_29_celery_results"  # the revision that is migrated from
DEAD, WAITING = 300, 50  # messages in each of some queues
DEAD_IN, WAITING_IN = ("mail.delivery", "moderation.review", "rates.update"), ("cleanup.media", "moderation.review")
PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")  # of a route's path
FILTERS: Mapping[str, Sequence[str]] = {
    "/runs": (
        "job=mail.delivery",
        "job=maintenance.purge_logs",
        "entry=purge-logs-daily",
        "status=failed",
        "status=dead&job=mail.delivery",
        "trigger=schedule",
        "trigger=celery",
        "since=24h",
        "id={message_id}",
        "id=nothing-like-it",
        "text=451",
        "text=nothing-like-it",
        "before={middle}",
    ),
    "/schedule/{entry}/why": ("at=02:30",),
    "/emails": ("since=all", "state=failed&since=all", "recipient=user7@&since=all", "ad=7&since=all"),
    "/moderation": ("since=all", "rule=contact.phone&since=all", "action=approve&since=all"),
    "/analytics": ("days=90",),
    "/analytics/rates": ("days=90",),
    "/dead": ("queue=mail.delivery", "reason=451", "id={dead_id}"),
    "/retries": ("job=mail.delivery",),
    "/actions": ("actor=olena", "target=nothing"),
    "/trigger/{job}": ("run={run}",),
    "/trigger/{job}/confirm": ("dry_run={message_id}&arguments=%7B%7D",),
}
UNKNOWN = {"/dead/requeueing/{id}", "/emails/inbox/{id:int}", "/emails/inbox/{id:int}/body"}  # answered with 404 here
REDIRECTED = {"/published/{id:path}", "/sign-in"}
EXAMPLES = """
SELECT (SELECT id FROM update_logs WHERE status = 'failed' ORDER BY id DESC LIMIT 1) AS run,
    (SELECT message_id FROM update_logs WHERE status = 'failed' ORDER BY id DESC LIMIT 1) AS message_id,
    (SELECT max(id) / 2 FROM update_logs) AS middle,
    (SELECT max(id) FROM moderation_notification_logs) AS email,
    (SELECT max(ad_id) FROM moderation_decisions) AS ad
"""
COMMANDS = (
    "runs list",
    "runs list --job mail.delivery --limit 200",
    "runs list --status failed",
    "runs list --entry purge-logs-daily",
    "runs list --trigger celery",
    "runs list --error nothing-like-it",
    "runs list --id {message_id}",
    "runs list --since 1d --limit 1000",
    "runs show {message_id}",
    "why purge-logs-daily",
    "schedule list",
    "retries list",
    "dead list",
    "doctor",
)


@dataclass(frozen=True)
class Times:
    """How long something took, each time, in milliseconds; and the processor time of the last, where it is known."""

    wall: Sequence[float]
    cpu: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.wall)

    @property
    def p95(self) -> float:
        return sorted(self.wall)[round(0.95 * (len(self.wall) - 1))]

    @property
    def is_on_target(self) -> bool:
        return max(self.median, self.p95) <= TARGET


Measured = dict[str, Times]


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    return measure(servers, say, QUICK if quick else SIZES, rounds=1 if quick else ROUNDS)


def measure(servers: Servers, say: Say, sizes: Sequence[int], *, rounds: int = ROUNDS) -> Table:
    found: dict[int, tuple[Measured, Measured]] = {}
    for runs in sizes:
        with stored(servers, say, Size(runs)) as environment:
            found[runs] = _pages(environment, say, rounds), _commands(environment, say, min(rounds, COMMAND_ROUNDS))
    migrated, blocked = _migration(servers, say, max(sizes))
    say(f"  migrated in {migrated:.1f} s, in which an insert waited for {blocked * 1000:.0f} ms at most")
    return _table(found, migrated, blocked, servers.versions(), max(sizes))


@contextmanager
def stored(servers: Servers, say: Say, size: Size) -> Iterator[dict[str, str]]:
    """Create a database with so many runs, and a vhost; yield the environment of a program there."""
    with servers.own() as (name, environment):
        began = time.perf_counter()
        programs.run(programs.module("pocketwatch", "migrate"), environment)  # for the queues
        fill(servers.url(name), size)
        command.run(_fill_queues(environment["RABBITMQ_URL"]))
        say(f"  {size.runs:,} runs and what belongs to them stored in {time.perf_counter() - began:.0f} s")
        yield environment


async def _fill_queues(url: str) -> None:
    async with Publisher([url], role="bench") as publisher:
        for name in DEAD_IN:
            for number in range(DEAD):
                await publisher.publish(_dead(name, number), exchange="", routing_key=f"{name}.dead")
        for name in WAITING_IN:
            for number in range(WAITING):
                message = aio_pika.Message(b"{}", message_id=f"waiting-{name}-{number}")
                await publisher.publish(message, exchange="", routing_key=name)


def _dead(queue: str, number: int) -> aio_pika.Message:
    headers = {
        metadata.ORIGIN_ROUTING_KEY: queue,
        metadata.ERROR_TYPE: "SmtpError",
        metadata.ERROR: f"451 4.3.{number % 5} try again later",
        metadata.ATTEMPT: 8,
        metadata.FIRST_FAILED_AT: f"2026-11-28T10:{number % 60:02}:00+00:00",
        metadata.LAST_FAILED_AT: f"2026-11-28T13:{number % 60:02}:00+00:00",
    }
    body = json.dumps({"ad_id": number, "note": "x" * 500}).encode()
    mode = aio_pika.DeliveryMode.PERSISTENT
    return aio_pika.Message(body, message_id=f"dead-{queue}-{number}", headers=dict(headers), delivery_mode=mode)


def examples(environment: Mapping[str, str]) -> dict[str, str]:
    """Return ids of rows that are stored, by what they are ids of."""
    with psycopg.connect(environment["DATABASE_URL"], row_factory=dict_row) as connection:
        found = connection.execute(EXAMPLES).fetchone() or {}
    return {name: str(value) for name, value in found.items()} | {"dead_id": f"dead-{DEAD_IN[0]}-7"}


def in_address(known: Mapping[str, str]) -> dict[str, str]:
    """Return these values as an address has them."""
    return {name: quote(value) for name, value in known.items()}


def paths(known: Mapping[str, str]) -> dict[str, int]:
    """Return the address of every page, with the status that it answers.

    Raises:
        WorkNotDone: when nothing says what a route's parameters stand for.
    """
    named = {
        "entry": "purge-logs-daily",
        "job": "cleanup.tokens",
        "name": "ad_approved",
        "queue": DEAD_IN[0],
        "/runs/{id:path}": known["run"],
        "/dead/{queue}/{id:path}": known["dead_id"],
        "/published/{id:path}": known["message_id"],
        "/emails/{id:int}": known["email"],
        "/emails/{id:int}/body": known["email"],
        "/moderation/ads/{id:int}": known["ad"],
        **dict.fromkeys(UNKNOWN, "1"),
    }
    found: dict[str, int] = {}
    for route in pages.routes():
        if not isinstance(route, Route) or "GET" not in (route.methods or ()):
            continue
        path = route.path
        for parameter in PARAMETER.finditer(route.path):
            if (value := named.get(parameter[1], named.get(route.path))) is None:
                raise WorkNotDone(f"page {route.path}: nothing says what its {parameter[1]} is; add it in {__file__}")
            path = path.replace(parameter[0], value)
        found[path] = 404 if route.path in UNKNOWN else 303 if route.path in REDIRECTED else 200
        for query in FILTERS.get(route.path, ()):
            found[f"{path}?{query.format(**known)}"] = 200
    return found


def _pages(environment: Mapping[str, str], say: Say, rounds: int) -> Measured:
    wanted = paths(in_address(examples(environment)))
    took: dict[str, list[float]] = {path: [] for path in wanted}
    with served(environment) as request:
        for number in range(rounds + 1):
            for path, status in wanted.items():
                milliseconds = request(path, status)
                if number:  # the first round compiles templates
                    took[path].append(milliseconds)
    say(f"  {len(wanted)} pages requested {rounds} times each")
    return {path: Times(each) for path, each in took.items()}


@contextmanager
def served(environment: Mapping[str, str]) -> Iterator[Callable[[str, int], float]]:
    """Run the console; yield a function that requests a path, expects a status, and returns the milliseconds."""
    web = programs.module("pocketwatch", "web", "--port", "0")
    with programs.working(web, environment) as worker, httpx.Client(**CLIENT) as client:
        worker.until(lambda: _url(worker) is not None, within=STARTUP)
        url = _url(worker)
        worker.until(lambda: client.get(f"{url}/dead").status_code == 200, within=STARTUP)  # the broker is connected
        yield lambda path, status: _request(client, f"{url}{path}", status)


def _request(client: httpx.Client, address: str, status: int) -> float:
    began = time.perf_counter()
    answer = client.get(address)
    seconds = time.perf_counter() - began
    if answer.status_code != status:
        raise WorkNotDone(f"page {address} answers {answer.status_code}: {answer.text[-500:]}")
    return seconds * 1000


def _url(worker: programs.Worker) -> str | None:
    lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
    return next((line["url"] for line in lines if line["event"] == STARTED), None)


def _commands(environment: Mapping[str, str], say: Say, rounds: int) -> Measured:
    known, found = examples(environment), Measured()
    for words in COMMANDS:
        name = words.format(**known)
        times = [timed(name, environment) for _ in range(rounds)]
        found[f"pocketwatch {name}"] = Times([wall for wall, _ in times], times[-1][1])
    say(f"  {len(found)} commands run {rounds} times each")
    return found


def timed(words: str, environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the time and the processor time of a command, in milliseconds."""
    command_ = programs.module("pocketwatch", *words.split())
    began = time.perf_counter()
    process = subprocess.Popen(
        command_, env=environment, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    errors = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    # `doctor` finds that nothing consumes.
    if process.returncode > 1 or errors:
        raise WorkNotDone(f"pocketwatch {words} failed: {errors[-1000:].decode()}")
    return wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000


def _migration(servers: Servers, say: Say, runs: int) -> tuple[float, float]:
    """Migrate a full database from the revision before; return how long it took, and how long an insert waited."""
    with servers.vhost() as vhost, servers.database("template0", f"bench_former_{os.getpid()}") as name:
        environment = servers.environment(DATABASE_URL=servers.url(name), **vhost)
        programs.run(programs.module("bench.console", "--former"), environment)
        fill(servers.url(name), Size(runs))
        say(f"  {runs:,} runs stored in the tables of {PREVIOUS}")
        with _writing(servers.url(name)) as waits:
            done = programs.run(programs.module("pocketwatch", "migrate"), environment)
        return done.seconds, max(waits)


@contextmanager
def _writing(url: str) -> Iterator[list[float]]:
    """Insert a run every few milliseconds; yield how long each insert took, in seconds."""
    waits, over = [0.0], threading.Event()
    statement = (
        "INSERT INTO update_logs (job, message_id, trigger, status, finished_at, worker) "
        "VALUES ('a.job', gen_random_uuid(), 'event', 'succeeded', now(), 'host:1')"
    )

    def write() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not over.wait(0.005):
                began = time.perf_counter()
                connection.execute(statement)
                waits.append(time.perf_counter() - began)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        yield waits
    finally:
        over.set()
        writing.join()


async def _make_former(url: str) -> None:
    from pocketwatch.storage import migrate  # noqa: PLC0415
    from pocketwatch.storage.database import Database  # noqa: PLC0415

    database = Database(url)
    await migrate.migrate(database, to=PREVIOUS)
    await database.close()


def _table(
    found: Mapping[int, tuple[Measured, Measured]], migrated: float, blocked: float, versions: str, runs: int
) -> Table:
    made = table.blank("console: milliseconds, by runs stored")
    made.add_column("page or command", overflow="fold", ratio=1)
    for size in found:
        for name in ("median", "p95", "max", "CPU"):
            made.add_column(f"{name}\n{size:,}", justify="right")
    for part in (0, 1):
        for name in found[min(found)][part]:
            # An id in an address differs with the size.
            times = [list(each[part].values())[list(found[min(found)][part]).index(name)] for each in found.values()]
            slow = part == 0 and not all(each.is_on_target for each in times)
            cells = [_shown(value) for each in times for value in (each.median, each.p95, max(each.wall), each.cpu)]
            made.add_row(name, *cells, style="bold" if slow else None)
    late = sum(not times.is_on_target for each in found.values() for times in each[0].values())
    verdict = f"MISSED {late} times" if late else "met"
    made.caption = "\n".join(
        [
            f"target: median and p95 of each page at most {TARGET} ms: {verdict}",
            f"pocketwatch migrate from {PREVIOUS} with {runs:,} runs: {migrated:.1f} s",
            f"an insert into the run log waited meanwhile for {blocked * 1000:.0f} ms at most",
            versions,
            table.machine(),
        ]
    )
    return made


def _shown(milliseconds: float | None) -> str:
    return table.NONE if milliseconds is None else f"{milliseconds:,.0f}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--former"]:
        command.run(_make_former(os.environ["DATABASE_URL"]))
    else:
        with started(print) as servers:
            Console(width=160).print(measure(servers, print, tuple(map(int, sys.argv[1:])) or SIZES))
