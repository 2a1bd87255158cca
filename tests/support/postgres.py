"""Private PostgreSQL servers: with a clock or a disk of their own, or as primary and standby."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import psycopg

from pocketwatch.stack.files import tail
from pocketwatch.stack.native.postgres import Postgres
from pocketwatch.stack.native.programs import Programs
from pocketwatch.stack.native.server import StackContext
from pocketwatch.stack.processes import Launch, Process, launch, run, wait_until_gone
from pocketwatch.stack.servers import DATABASE, USER
from tests.support.pgbouncer import _free_port

PASSWORD = "private"
WITHIN = 60.0  # seconds


class PrivatePostgres:
    """A server in a folder.

    Args:
        environment: of its processes, in addition.
        launcher: the command that starts it.
    """

    def __init__(
        self, folder: Path, *, environment: Mapping[str, str] | None = None, launcher: Sequence[str] = ()
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.port = _free_port()
        context = StackContext(
            folder, "", 1, {"postgres": PASSWORD}, {"postgres": self.port}, Programs(), durable=False
        )
        self._server, self._launcher, self._environment = Postgres(context), launcher, environment or {}
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._server.delete_data()

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def data(self) -> Path:
        return self._server._data()

    def start(self) -> None:
        planned = self._server.prepare()
        environment = {**(planned.environment or {}), **self._environment}
        command = [*self._launcher, *planned.command]
        self._process = launch(replace(planned, command=command, environment=environment), log=self._server.log)
        self._until_ready()

    def _until_ready(self) -> None:
        end = time.monotonic() + WITHIN
        while True:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            assert self._process is not None
            assert self._process.alive, tail(self._server.log)
            assert time.monotonic() < end, tail(self._server.log)
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash of the machine does; its sessions too, which would outlive it for moments."""
        if self._process is not None and self._process.alive:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGQUIT)
            if not wait_until_gone([self._process], timeout=10):
                os.kill(self._process.pid, signal.SIGKILL)

    def run(self, statement: str, *, database: str = DATABASE) -> list[tuple[object, ...]]:
        """Run a statement of administration, outside a transaction."""
        with psycopg.connect(self.url, dbname=database, autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


class Standby(PrivatePostgres):
    """A streaming replica of another server, which confirms no commit without it, until it is promoted."""

    def __init__(self, folder: Path, primary: PrivatePostgres) -> None:
        super().__init__(folder)
        self._primary = primary

    def start(self) -> None:
        data = self.data
        if not data.exists():
            data.parent.mkdir(exist_ok=True)
            account = self._primary._server._account(self._primary.data)
            data.mkdir(mode=0o700)
            if account:
                os.chown(data, account.uid, account.gid)
            url = urlsplit(self._primary.url)._replace(path="").geturl()
            command = [self._server._program("pg_basebackup", self._primary.data), "-R", "-D", str(data), "-d", url]
            copied = run(Launch([*command, "--checkpoint=fast"], cwd=data, account=account), stderr=subprocess.PIPE)
            assert copied.returncode == 0, copied.stderr
        super().start()
        self._primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._primary.run("SELECT pg_reload_conf()")

    def promote(self) -> None:
        self.run("SELECT pg_promote()")
