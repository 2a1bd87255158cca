"""A private PgBouncer in transaction mode, in front of the test's PostgreSQL."""

import os
import pwd
import socket
import subprocess
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pocketwatch.stack.native.programs import Programs

POOL_SIZE = 4  # connections to the server
USER = "postgres"  # that it runs as, when it is started as root
CONFIGURATION = """
[databases]
* = host={host} port={port} user={user} password={password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
server_login_retry = 1
"""


class PgBouncer:
    """It leads to any database of a server."""

    def __init__(self, url: str, folder: Path) -> None:
        programs = Programs()
        programs.provide(["pgbouncer"], log=folder / "install.log", echo=lambda _: None)
        self._program, self._folder, self.port = programs.pgbouncer(), folder, _free_port()
        server = urlsplit(url)
        self._file = folder / "pgbouncer.ini"
        self._file.write_text(
            CONFIGURATION.format(
                host=server.hostname,
                port=server.port,
                user=server.username,
                password=server.password,
                listen_port=self.port,
                pool_size=POOL_SIZE,
            )
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def through(self, url: str) -> str:
        """The URL of a database, by this way."""
        return f"postgresql://user@127.0.0.1:{self.port}{urlsplit(url).path}"

    def start(self) -> None:
        account = ["-u", pwd.getpwnam(USER).pw_name] if os.getuid() == 0 else []
        with (self._folder / "pgbouncer.log").open("ab") as log:
            self._process = subprocess.Popen([str(self._program), *account, self._file], stdout=log, stderr=log)
        end = time.monotonic() + 10
        while not _answers(self.port):
            assert self._process.poll() is None, (self._folder / "pgbouncer.log").read_text()
            assert time.monotonic() < end, "PgBouncer does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
