"""The servers on one machine: RabbitMQ, PostgreSQL, Redis and a mail catcher, found or started.

Each is taken from the first of these that has it: its URL is given; Docker runs here, and there is a compose.yaml in
the current folder; programs installed on this machine, as private instances with their data below one folder. Where
data have been made once, they stay: a folder does not change from Docker to private instances, or back.
"""

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pocketwatch.errors import StackError
from pocketwatch.stack import probes
from pocketwatch.stack.compose import FILE, Compose, Docker
from pocketwatch.stack.files import remove, write_private
from pocketwatch.stack.given import Given
from pocketwatch.stack.guard import Guard
from pocketwatch.stack.native import Native
from pocketwatch.stack.ports import LOOPBACK
from pocketwatch.stack.programs import Programs
from pocketwatch.stack.server import Place
from pocketwatch.stack.source import Source
from pocketwatch.stack.state import SERVERS, Identity, IdentityLost, State, contents, forget, is_ours, locked
from pocketwatch.stack.status import ServerStatus, of_given, of_ours
from pocketwatch.stack.urls import LABELS, VARIABLES, environment, main_port

UNTIL_DOWN = "up"  # the holder of what `up` starts


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Stack:
    """The servers of one folder.

    Args:
        folder: where their data, logs and passwords are kept. Two stacks never share one.
        given: URLs of servers that somebody else runs, by the names of their settings. They are never altered. (A URL
            of this stack's own counts for nothing, so that its environment may be exported to where we are called.)
        durable: whether data survive a crash of the whole machine; without, PostgreSQL writes faster. Holds for
            servers that are started, not for those that run already.
        say: told what is done, a line at a time; standard error by default.
        programs: where the programs of private instances are looked for.
        docker: the program `docker`.
    """

    def __init__(
        self,
        folder: Path = Path(".pocketwatch"),
        *,
        given: Mapping[str, str] | None = None,
        durable: bool = True,
        say: Callable[[str], None] = _to_stderr,
        programs: Programs | None = None,
        docker: Docker | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self._given = Given(given or {})
        self._durable = durable
        self._say = say
        self._programs = programs or Programs()
        self._docker = docker or Docker()
        self._holder = UNTIL_DOWN

    def up(self) -> dict[str, str]:
        """Bring the servers up; those that run already are left as they are.

        Returns:
            The environment: RABBITMQ_URL, RABBITMQ_MANAGEMENT_URL, DATABASE_URL, REDIS_URL and SMTP_URL. What is not
            given is also written to the file `env` in the folder; no value needs quotes.

        Raises:
            StackError: when one does not start, with the end of its log.
        """
        with locked(self.folder, say=self._say):
            given = self._given.by_server(Identity.read(self.folder), State.read(self.folder).ports)
            for server, url in given.items():
                self._say(f"{LABELS[server]} at {probes.address(url)}: given by {VARIABLES[server]}, left alone")
            urls = self._start([server for server in SERVERS if server not in given])
        return urls | self._given.environment(given)

    def down(self, *, wipe: bool = False) -> None:
        """Stop everything that was started for this folder.

        Args:
            wipe: delete the data, too.

        Raises:
            StackError: when the folder is somebody else's, and holds what is called like ours.
        """
        deleted = not is_ours(self.folder)  # or never made; servers of it may still run
        if deleted and (found := contents(self.folder)):
            names = ", ".join(sorted(path.name for path in found))
            raise StackError(
                f"no stack was ever started in {self.folder}, so {names} in it belong to somebody else; "
                "nothing was touched"
            )
        with locked(self.folder, say=self._say):
            now = self._look()
            if wipe or deleted:
                now.source.wipe()
                forget(self.folder)
            else:
                now.source.stop(SERVERS)
                now.state.release_all()
                remove(self.folder / "env")

    def status(self) -> list[ServerStatus]:
        """How each server is, now."""
        now = self._look()
        return [
            of_given(server, now.given[server])
            if server in now.given
            else of_ours(server, now.identity.source, now.source, now.state)
            for server in SERVERS
        ]

    def env(self) -> dict[str, str]:
        """The environment of the running stack.

        Raises:
            StackError: when it is not up.
        """
        now = self._look()
        if down := [LABELS[server] for server in now.own if not now.source.is_running(server)]:
            raise StackError(f"not running: {', '.join(down)}; start the servers: pocketwatch stack up")
        return now.urls() | self._given.environment(now.given)

    def pid(self, name: str) -> int | None:
        """The process of a private instance: rabbitmq, postgres, redis or mail."""
        return self._look().source.pid(name)

    def letters_elsewhere(self) -> str | None:
        """Where letters go, unless this folder's own catcher keeps them (see `stack.letters`)."""
        now = self._look()
        if "mail" in now.given:
            return f"{probes.address(now.given['mail'])}, which is given by {VARIABLES['mail']}"
        if now.identity.source == "docker" and (port := now.state.ports.get("mailpit")):
            return f"Mailpit, http://{LOOPBACK}:{port}"
        return None

    @contextmanager
    def guarded(self) -> Iterator[dict[str, str]]:
        """Bring the servers up for as long as this process uses them.

        At the end, what this use started is stopped, unless somebody else holds it by then (`up`, or another use). When
        this process dies before, even by SIGKILL, a guard process does the same. Within the block, `up` of this object
        starts again what has died, for this use.
        """
        self._holder = secrets.token_hex(8)
        guard = Guard(self.folder, self._holder)
        try:
            yield self.up()
        finally:
            try:
                self.release(self._holder)
            finally:
                guard.dismiss()
                self._holder = UNTIL_DOWN

    def release(self, holder: str) -> None:
        """Stop what only this holder wanted."""
        if not (self.folder / "lock").exists():
            return
        with locked(self.folder, say=self._say):
            now = self._look()
            now.source.stop(now.state.release(holder))
            if not any(now.source.is_running(server) for server in SERVERS):
                remove(self.folder / "env")

    def _start(self, servers: list[str]) -> dict[str, str]:
        if not servers:
            return {}
        if identity := Identity.read(self.folder):
            if identity.source == "docker" and not self._docker.is_running():
                raise StackError(
                    f"the data of {self.folder} are in Docker, which does not run; start it, or take another --folder"
                )
            return self._bring_up(servers, identity)
        if compose := self._compose_file():
            in_docker = self._new_identity(compose)
            try:
                return self._bring_up(servers, in_docker)
            except StackError as error:
                self._say(f"{error}\nso private instances are taken instead")
            with suppress(StackError):
                self._now(in_docker).source.wipe()
        return self._bring_up(servers, self._new_identity(None))

    def _new_identity(self, compose: Path | None) -> Identity:
        """For data that will be made; what is left of older ones was left by somebody who deleted the folder."""
        identity = Identity.new(self.folder, compose=compose)
        self._now(identity).source.wipe()
        identity.write(self.folder)
        return identity

    def _bring_up(self, servers: list[str], identity: Identity) -> dict[str, str]:
        now = self._now(identity)
        running = {server for server in servers if now.source.is_running(server)}
        now.state.hold(servers, holder=self._holder)
        try:
            now.source.up(servers)
        finally:
            now.state.forget_holders(server for server in servers if not now.source.is_running(server))
        for server in servers:
            what = "runs already" if server in running else "started"
            self._say(f"{LABELS[server]} at {now.address(server)}: {what}, {identity.source}")
        urls = now.urls()
        write_private(self.folder / "env", "".join(f"{name}={value}\n" for name, value in urls.items()))
        return urls

    def _look(self) -> "_Now":
        """For looking and stopping: that works also when the passwords are lost, or were never made."""
        try:
            identity = Identity.read(self.folder) or Identity.new(self.folder, compose=self._compose_file())
        except IdentityLost:
            in_docker = (self.folder / "compose.env").exists()
            identity = Identity.new(self.folder, compose=Path(FILE).resolve() if in_docker else None)
        return self._now(identity)

    def _now(self, identity: Identity) -> "_Now":
        state = State.read(self.folder)
        source: Source
        if identity.compose is not None:
            file = Path(identity.compose)
            source = Compose(self.folder, file, state, identity.passwords, docker=self._docker)
        else:
            place = Place(self.folder, identity.node, identity.passwords, state.ports, self._programs, self._durable)
            source = Native(place, state, say=self._say)
        return _Now(identity, state, source, self._given.by_server(identity, state.ports))

    def _compose_file(self) -> Path | None:
        file = Path(FILE).resolve()
        return file if file.exists() and self._docker.is_running() else None


@dataclass(frozen=True)
class _Now:
    """All that is known of a folder's servers at one moment."""

    identity: Identity
    state: State
    source: Source
    given: Mapping[str, str]

    @property
    def own(self) -> list[str]:
        return [server for server in SERVERS if server not in self.given]

    def address(self, server: str) -> str:
        return f"{LOOPBACK}:{main_port(server, self.state.ports)}"

    def urls(self) -> dict[str, str]:
        return environment(self.own, ports=self.state.ports, passwords=self.identity.passwords)
