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


class Wrong(Exception):
    """A contender has not done the work, so its time means nothing."""


@dataclass(frozen=True)
class Servers:
    """The servers of this run."""

    urls: Mapping[str, str]

    def environment(self, **changes: str) -> dict[str, str]:
        """The environment of a program under test: nothing leaks in from the caller's."""
        ours = ("RABBITMQ_", "DATABASE_URL", "REDIS_URL", PREFIX)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**inherited, **self.urls, "POCKETWATCH_LOG_FORMAT": "json", **changes}

    def url(self, database: str) -> str:
        return self.urls["DATABASE_URL"].rpartition("/")[0] + f"/{database}"

    def ask(self, statement: str, database: str = "postgres") -> tuple[Any, ...]:
        """Run a statement outside a transaction; its first row, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return (cursor.fetchone() or ()) if cursor.description else ()

    @contextmanager
    def database(self, template: str = EMPTY, name: str | None = None) -> Iterator[str]:
        """A copy of a template, byte for byte, settled alike before every run; yields its name."""
        name = name or f"bench_{uuid4().hex[:12]}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        try:
            self.settle(name)
            yield name
        finally:
            self.ask(f"DROP DATABASE {name} WITH (FORCE)")

    def settle(self, database: str) -> None:
        """Statistics known, nothing left to write: no contender pays for what was before it."""
        self.ask("VACUUM (ANALYZE)", database)
        self.ask("CHECKPOINT")
        os.sync()

    @contextmanager
    def vhost(self) -> Iterator[dict[str, str]]:
        """A vhost of its own; yields the settings that name it."""
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

    def versions(self) -> str:
        """Of the servers."""
        with httpx.Client(base_url=self.urls["RABBITMQ_MANAGEMENT_URL"], trust_env=False) as api:
            rabbitmq = api.get("/api/overview").json()["rabbitmq_version"]
        return f"PostgreSQL {self.ask('SHOW server_version')[0].split()[0]} (fsync on), RabbitMQ {rabbitmq}"


@contextmanager
def _alone() -> Iterator[None]:
    """Two at a time would measure each other, and the first to end would delete the other's servers."""
    FOLDER.parent.mkdir(exist_ok=True)
    with (FOLDER.parent / "bench.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Wrong("another bench is running in this checkout; wait for its end") from error
        yield


@contextmanager
def started(say: Say) -> Iterator[Servers]:
    """The servers with an empty marketplace; stopped, and their data deleted, however the block ends."""
    with _alone():
        stack = Stack(FOLDER, echo=say)
        stack.down(wipe=True)  # what a bench that was killed has left
        try:
            with stack.lease() as urls:
                servers = Servers(urls)
                _make_tables(servers)
                yield servers
        finally:
            stack.down(wipe=True)
            shutil.rmtree(FOLDER, ignore_errors=True)


def _make_tables(servers: Servers) -> None:
    """The platform's, simplejwt's and the suite's, each by its own migrations."""
    servers.ask(f"DROP DATABASE IF EXISTS {EMPTY} WITH (FORCE)")
    servers.ask(f"CREATE DATABASE {EMPTY}")
    environment = servers.environment(DATABASE_URL=servers.url(EMPTY))
    for module, verb in (("demo.marketplace", "make"), ("pocketwatch", "migrate")):
        command = [sys.executable, "-m", module, verb]
        subprocess.run(command, env=environment, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
