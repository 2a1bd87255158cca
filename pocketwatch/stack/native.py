"""The life cycle of private servers: start what is missing, reuse what runs, stop what is ours.

All changes happen under the folder's lock (`state.locked`).
"""

import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pocketwatch.errors import StackError
from pocketwatch.stack import ports
from pocketwatch.stack.files import last_lines, set_aside_long_log, size
from pocketwatch.stack.mail import MODULE, MailCatcher
from pocketwatch.stack.ports import digest
from pocketwatch.stack.postgres import ELSEWHERE, Postgres
from pocketwatch.stack.processes import Process, end, launch, strays
from pocketwatch.stack.rabbitmq import Epmd, RabbitMQ
from pocketwatch.stack.redis import Redis
from pocketwatch.stack.server import Place, Server
from pocketwatch.stack.state import State
from pocketwatch.stack.urls import LABELS

READY_PATIENCE = 90.0  # seconds; five are usual, but the machine may be busy
STOP_PATIENCE = 30.0  # seconds
GIVE_UP_PATIENCE = 5.0  # seconds; a server that is killed while it starts loses nothing
POLL = 0.05  # seconds
# Names of the programs while they run, and while they are starting.
PROGRAMS = frozenset(
    {"beam.smp", "epmd", "erlexec", "initdb", "postgres", "rabbitmq-server", "redis-server", "valkey-server", MODULE}
)


class Native:
    """The private servers of one folder."""

    def __init__(self, place: Place, state: State, *, say: Callable[[str], None]) -> None:
        self._place = place
        self._state = state
        self._say = say
        self._postgres = Postgres(place)
        # In the order of their start. RabbitMQ takes longest; while it starts, PostgreSQL's data are made.
        self._servers: tuple[Server, ...] = (
            Epmd(place),
            RabbitMQ(place),
            Redis(place),
            MailCatcher(place),
            self._postgres,
        )

    def up(self, names: list[str]) -> None:
        """Bring these servers up.

        Raises:
            StackError: when one does not start; then nothing that this call started runs on.
        """
        if sys.platform != "linux":
            raise StackError(
                "private servers need Linux; start Docker, or set RABBITMQ_URL, DATABASE_URL, REDIS_URL and SMTP_URL"
            )
        self._place.programs.provide(names, log=self._place.folder / "install.log", say=self._say)
        servers = [server for server in self._servers if server.part_of in names]
        begun: dict[str, int] = {}
        try:
            self._bring_up(servers, begun)
            for server in servers:
                if server.name in begun:
                    server.after_start()
        except BaseException:
            self._end([server for server in self._servers if server.name in begun], patience=GIVE_UP_PATIENCE)
            raise

    def stop(self, names: Iterable[str]) -> None:
        """Stop these servers, RabbitMQ's port mapper last, and whatever of ours no record names."""
        chosen = [server for server in self._servers if server.part_of in set(names)]
        self._wake(chosen)
        for server in chosen:
            if self._is_alive(server):
                server.before_stop()
        for group in ([s for s in chosen if s.name != "epmd"], [s for s in chosen if s.name == "epmd"]):
            self._end(group)
        self._clear_strays()

    def wipe(self) -> None:
        """Kill all servers, and delete PostgreSQL's data, which may lie elsewhere; the rest lies in the folder."""
        self._end(list(self._servers), patience=0)
        self._clear_strays()
        self._postgres.wipe()

    def pid(self, name: str) -> int | None:
        """The server's process, when it runs."""
        process = self._state.processes.get(name)
        return process.pid if process and process.alive else None

    def is_running(self, name: str) -> bool:
        """True when its process lives, ready or not."""
        return self.pid(name) is not None

    def is_ready(self, name: str) -> bool:
        """True when it does its work."""
        return all(self._is_alive(s) and s.is_ready() for s in self._servers if s.name == name)

    def _is_alive(self, server: Server) -> bool:
        return self.is_running(server.name)

    def _wake(self, servers: list[Server]) -> None:
        """Somebody may have stopped one (SIGSTOP); it need not be killed for that."""
        for server in servers:
            if server.name in self._state.processes:
                self._state.processes[server.name].send(signal.SIGCONT)

    def _bring_up(self, servers: list[Server], begun: dict[str, int]) -> None:
        """Notes in `begun` what it starts, and how long the log was before."""
        self._wake(servers)
        for _ in range(2):
            self._clear_strays()
            for server in servers:
                if not self._is_alive(server):
                    set_aside_long_log(self._log(server))
                    begun[server.name] = size(self._log(server))
                    self._start(server)
            if not (failed := self._wait_until_ready(servers)):
                return
            self._judge(failed, begun)
        raise StackError(self._what_happened(failed[0], since=0))

    def _start(self, server: Server) -> None:
        needed = [*server.ports, "tools"] if server.name == "rabbitmq" else server.ports
        ports.reassign(self._state.ports, needed, folder=self._place.folder)
        self._state.processes[server.name] = launch(server.prepare(), log=self._log(server))
        self._state.write()  # at once: what is not recorded is a stray
        if server.name == "epmd":
            self._wait_until_ready([server])

    def _wait_until_ready(self, servers: list[Server]) -> list[Server]:
        """Those that have died, or did not answer in time."""
        deadline = time.monotonic() + READY_PATIENCE
        waiting = servers
        while waiting := [server for server in waiting if not (self._is_alive(server) and server.is_ready())]:
            if dead := [server for server in waiting if not self._is_alive(server)]:
                return dead
            if time.monotonic() > deadline:
                return waiting
            time.sleep(POLL)
        return []

    def _judge(self, failed: list[Server], begun: dict[str, int]) -> None:
        """Whether it is worth a second try: when a port was taken in the meantime, or an older process hangs.

        Raises:
            StackError: when it is not.
        """
        for server in failed:
            what = self._what_happened(server, since=begun.get(server.name, 0))
            self._end([server], patience=0)
            lost_port = not all(ports.is_free(self._state.ports[name]) for name in server.ports)
            if server.name in begun and not lost_port:
                raise StackError(what)

    def _what_happened(self, server: Server, *, since: int) -> str:
        what = f"does not answer after {READY_PATIENCE:g} s" if self._is_alive(server) else "did not start"
        log = self._log(server)
        label = LABELS.get(server.name, "RabbitMQ's epmd")
        return f"{label} {what}; the end of {log}:\n{last_lines(log, since=since)}"

    def _end(self, servers: list[Server], *, patience: float = STOP_PATIENCE) -> None:
        recorded = [server for server in servers if server.name in self._state.processes]
        end([(self._state.processes[s.name], s.stop_signal) for s in recorded], patience=patience)
        for server in recorded:
            del self._state.processes[server.name]
        self._state.write()

    def _clear_strays(self) -> None:
        """A record was lost, or we were killed between a start and its record."""
        homes = [self._place.folder / name for name in ("rabbitmq", "redis", "mail", "postgres", "postgres.new")]
        elsewhere = ELSEWHERE / digest(self._place.folder)
        homes += [elsewhere, elsewhere.with_name(f"{elsewhere.name}.new")]
        known = self._state.processes.values()
        lost: list[Process] = strays(programs=PROGRAMS, homes=homes, known=known)
        end([(process, signal.SIGKILL) for process in lost], patience=STOP_PATIENCE)

    def _log(self, server: Server) -> Path:
        return self._place.folder / f"{server.name}.log"
