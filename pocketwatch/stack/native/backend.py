"""Private servers: start what is missing, reuse what runs, stop only what belongs to the folder.

Everything that changes something requires the folder's lock (`state.locked`).
"""

import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from pocketwatch.errors import StackError
from pocketwatch.stack import ports, probes
from pocketwatch.stack.files import rotate, tail
from pocketwatch.stack.native.mail_catcher import MailCatcher
from pocketwatch.stack.native.postgres import Postgres
from pocketwatch.stack.native.rabbitmq import PortMapper, RabbitMQ
from pocketwatch.stack.native.redis import Redis
from pocketwatch.stack.native.server import Server, StackContext
from pocketwatch.stack.processes import find_processes, launch, terminate
from pocketwatch.stack.servers import LABELS, NODES, PORT_MAPPER
from pocketwatch.stack.state import State

START_TIMEOUT = 90.0  # seconds; five are usual, but the machine may be busy
STOP_TIMEOUT = 30.0  # seconds
ABORT_TIMEOUT = 5.0  # seconds; a server that is killed while it starts loses nothing
POLL = 0.05  # seconds


class NativeBackend:
    """The private servers of one folder."""

    def __init__(self, context: StackContext, state: State, *, echo: Callable[[str], None]) -> None:
        self._context = context
        self._state = state
        self._echo = echo
        self._postgres = Postgres(context)
        # RabbitMQ takes longest to start; meanwhile PostgreSQL's data are created.
        servers = (
            PortMapper(context),
            *(RabbitMQ(context, number) for number in range(1, len(NODES) + 1)),
            Redis(context),
            MailCatcher(context),
            self._postgres,
        )
        self._servers: dict[str, Server] = {server.name: server for server in servers}

    def up(self, names: Collection[str]) -> None:
        """Start the servers that do not run, and wait until all of them are ready.

        Args:
            names: of a cluster, of each node.

        Raises:
            StackError: when one does not start; then everything that this call started is stopped.
        """
        if sys.platform != "linux":
            raise StackError(
                "private servers need Linux; start Docker, or set RABBITMQ_URL, DATABASE_URL, REDIS_URL and SMTP_URL"
            )
        self._context.programs.provide(names, log=self._context.folder / "install.log", echo=self._echo)
        servers = self._chosen([PORT_MAPPER, *names] if NODES[0] in names else names)
        joining = [server for server in servers if server.joins]
        started: set[str] = set()
        try:
            self._bring_up([server for server in servers if server not in joining], started)
            self._bring_up(joining, started)
            for server in servers:
                if server.name in started:
                    server.after_start()
        except BaseException:
            self._terminate(self._chosen(started), timeout=ABORT_TIMEOUT)
            raise

    def stop(self, names: Collection[str]) -> None:
        """Stop servers; RabbitMQ with all its nodes."""
        servers = [server for server in self._servers.values() if server.kind in names]
        self._resume(servers)
        for server in servers:
            if self.is_running(server.name):
                server.before_stop()
        self._terminate(servers, timeout=STOP_TIMEOUT)

    def destroy(self) -> None:
        """Kill all servers, and delete PostgreSQL's data, which may be outside the folder."""
        self._terminate(self._servers.values(), timeout=0)
        self._postgres.delete_data()

    def pid(self, name: str) -> int | None:
        process = self._state.processes.get(name)
        return process.pid if process and process.alive else None

    def is_running(self, name: str) -> bool:
        return self.pid(name) is not None

    def is_ready(self, name: str) -> bool:
        return self.is_running(name) and probes.is_ready(name, self._state.ports, self._servers[name].password)

    def _chosen(self, names: Collection[str]) -> list[Server]:
        return [server for name, server in self._servers.items() if name in names]

    def _resume(self, servers: Iterable[Server]) -> None:
        """Continue servers that were suspended (SIGSTOP), rather than kill them."""
        for server in servers:
            if server.name in self._state.processes:
                self._state.processes[server.name].send(signal.SIGCONT)

    def _bring_up(self, servers: list[Server], started: set[str]) -> None:
        """Try twice, as a port may be lost before its server listens; add to `started` what this call starts."""
        self._resume(servers)
        for is_last in (False, True):
            for server in servers:
                if not self.is_running(server.name):
                    started.add(server.name)
                    self._start(server)
            if not (failed := self._wait_until_ready(servers)):
                return
            error = self._error(failed[0])
            self._terminate(failed, timeout=0)
            if is_last:
                raise error

    def _start(self, server: Server) -> None:
        self._kill_orphaned_processes([server])
        ports.reassign(self._state.ports, server.ports, folder=self._context.folder)
        rotate(server.log)
        self._state.processes[server.name] = launch(server.prepare(), log=server.log)
        self._state.write()  # at once: without a record, it is an orphaned process

    def _wait_until_ready(self, servers: list[Server]) -> list[Server]:
        """Return the servers that have died, or are not ready in time."""
        deadline = time.monotonic() + START_TIMEOUT
        waiting = servers
        while waiting := [server for server in waiting if not self.is_ready(server.name)]:
            if dead := [server for server in waiting if not self.is_running(server.name)]:
                return dead
            if time.monotonic() > deadline:
                return waiting
            time.sleep(POLL)
        return []

    def _error(self, server: Server) -> StackError:
        what = f"does not answer after {START_TIMEOUT:g} s" if self.is_running(server.name) else "did not start"
        return StackError(f"{LABELS[server.name]} {what}; the end of {server.log}:\n{tail(server.log)}")

    def _terminate(self, servers: Iterable[Server], *, timeout: float) -> None:
        servers = list(servers)
        recorded = {server: self._state.processes.get(server.name) for server in servers}
        terminate([(process, server.stop_signal) for server, process in recorded.items() if process], timeout=timeout)
        for server in servers:
            self._state.processes.pop(server.name, None)
        self._state.write()
        self._kill_orphaned_processes(servers)

    def _kill_orphaned_processes(self, servers: Iterable[Server]) -> None:
        """Kill what runs in the folders of stopped servers: its record was lost, or it never had one."""
        programs: set[str] = set().union(*(server.processes for server in servers))
        folders: list[Path] = [folder for server in servers for folder in server.folders()]
        orphaned = find_processes(programs, folders)
        terminate([(process, signal.SIGKILL) for process in orphaned], timeout=STOP_TIMEOUT)
