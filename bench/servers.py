"""The benches' own servers, durable as in production, and a database and a vhost of its own for each run."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psycopg

from pocketwatch.settings import PREFIX
from pocketwatch.stack.stack import Stack

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / ".pocketwatch" / "bench"
EMPTY = "bench_empty"  # the template with all tables and no rows

Say = Callable[[str], None]


class WorkNotDone(Exception):
    """A contender did not do its work, so its time means nothing."""


@dataclass(frozen=True)
class Servers:
    """The servers of this run."""

    urls: Mapping[str, str]
    stack: Stack

    def evaluate(self, expression: str) -> None:
        """Evaluate an Erlang expression on the broker's node."""
        self.stack._snapshot().backend._servers["rabbitmq"]._evaluate(expression)  # type: ignore[attr-defined]  # noqa: SLF001

    def environment(self, **changes: str) -> dict[str, str]:
        """Return the environment of a program under test, without the caller's settings."""
        ours = ("RABBITMQ_", "DATABASE_URL", "REDIS_URL", PREFIX)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**inherited, **self.urls, "POCKETWATCH_LOG_FORMAT": "json", **changes}

    def url(self, database: str) -> str:
        return self.urls["DATABASE_URL"].rpartition("/")[0] + f"/{database}"

    def ask(self, statement: str, database: str = "postgres") -> tuple[Any, ...]:
        """Run a statement outside a transaction; return its first row, if any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return (cursor.fetchone() or ()) if cursor.description else ()

    @contextmanager
    def database(self, template: str = EMPTY, name: str | None = None) -> Iterator[str]:
        """Copy a template database, settled alike before every run; yield its name."""
        name = name or f"bench_{uuid4().hex[:12]}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            self.settle(name)
            yield name
        finally:
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def settle(self, database: str) -> None:
        """Vacuum, analyse and checkpoint, so that no contender pays for what happened before."""
        self.ask("VACUUM (ANALYZE)", database)
        self.ask("CHECKPOINT")
        os.sync()

    @contextmanager
    def vhost(self) -> Iterator[dict[str, str]]:
        """Create a vhost; yield the settings that name it."""
        name, url = f"bench-{uuid4().hex[:12]}", self.urls["RABBITMQ_URL"]
        management = self.urls["RABBITMQ_MANAGEMENT_URL"]
        with httpx.Client(base_url=f"{management}/api", timeout=30, trust_env=False) as api:
            api.put(f"/vhosts/{name}").raise_for_status()
            everything = {"configure": ".*", "write": ".*", "read": ".*"}
            api.put(f"/permissions/{name}/{urlsplit(url).username}", json=everything).raise_for_status()
            try:
                yield {"RABBITMQ_URL": f"{url.rpartition('/')[0]}/{name}"}
            finally:
                api.delete(f"/vhosts/{name}").raise_for_status()

    @contextmanager
    def own(self, **settings: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Create a database and a vhost; yield the name of the database, and the environment of a program there."""
        with self.vhost() as broker, self.database() as database:
            yield database, self.environment(**broker, DATABASE_URL=self.url(database), **settings)

    def versions(self) -> str:
        with httpx.Client(base_url=self.urls["RABBITMQ_MANAGEMENT_URL"], trust_env=False) as api:
            rabbitmq = api.get("/api/overview").json()["rabbitmq_version"]
        return f"PostgreSQL {self.ask('SHOW server_version')[0].split()[0]} (fsync on), RabbitMQ {rabbitmq}"


@contextmanager
def _exclusive() -> Iterator[None]:
    """Refuse to run beside another bench: they would measure each other and share servers."""
    FOLDER.parent.mkdir(exist_ok=True)
    with (FOLDER.parent / "bench.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WorkNotDone("another bench is running in this checkout; wait for its end") from error
        yield


@contextmanager
def started(say: Say) -> Iterator[Servers]:
    """Start servers with an empty marketplace; stop them and delete their data, however the block ends."""
    with _exclusive():
        stack = Stack(FOLDER, echo=say)
        stack.down(wipe=True)  # left by a bench that was killed
        try:
            with stack.lease() as urls:
                servers = Servers(urls, stack)
                _make_tables(servers)
                yield servers
        finally:
            stack.down(wipe=True)
            shutil.rmtree(FOLDER, ignore_errors=True)


def _make_tables(servers: Servers) -> None:
    """Create the platform's, simplejwt's and the suite's tables, each by its own migrations."""
    servers.ask(f"DROP DATABASE IF EXISTS {EMPTY} WITH (FORCE)")
    servers.ask(f"CREATE DATABASE {EMPTY}")
    environment = servers.environment(DATABASE_URL=servers.url(EMPTY))
    for module, verb in (("demo.marketplace", "make"), ("pocketwatch", "migrate")):
        command = [sys.executable, "-m", module, verb]
        subprocess.run(command, env=environment, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
