"""The servers of one machine: RabbitMQ, PostgreSQL, Redis and a mail catcher, found or started.

Each server is the first of these that exists: the external one that its URL names; a container, if Docker runs and the
current folder has a compose.yaml; a program of this machine, as a private instance. A folder with data keeps its
backend.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from pocketwatch import settings
from pocketwatch.errors import StackError
from pocketwatch.settings.files import read_dotenv
from pocketwatch.stack.compose import FILE, ComposeBackend, Docker
from pocketwatch.stack.files import remove, write_private
from pocketwatch.stack.lease import hold, is_held
from pocketwatch.stack.native.backend import NativeBackend
from pocketwatch.stack.native.programs import Programs
from pocketwatch.stack.native.server import StackContext
from pocketwatch.stack.servers import LABELS, LOOPBACK, MANAGEMENT, NODES, SERVERS, VARIABLES, address, own_address
from pocketwatch.stack.snapshot import Backend, ServerStatus, Snapshot
from pocketwatch.stack.state import Identity, IdentityLostError, State, contents, delete_state, is_stack, locked


def _echo_to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class Stack:
    """The servers of one folder.

    Args:
        folder: for their data, logs and passwords. Two stacks never share one.
        external: URLs of servers that the stack does not run, by the names of their settings. They are never altered.
            URLs of the stack's own servers are ignored, so that its environment may be exported to its commands.
        durable: whether data survive a crash of the whole machine; if not, PostgreSQL writes faster. It applies to
            servers that are started, not to those that run already.
        echo: called with each line of progress.
        nodes: of RabbitMQ; None: as many as its data have, or one. A cluster never shrinks.
        programs: where the programs of private instances are searched for.
        docker: the program `docker`.
    """

    def __init__(
        self,
        folder: Path = Path(".pocketwatch"),
        *,
        external: Mapping[str, str] | None = None,
        durable: bool = True,
        echo: Callable[[str], None] = _echo_to_stderr,
        nodes: int | None = None,
        programs: Programs | None = None,
        docker: Docker | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self._external = external or {}
        self._durable = durable
        self._echo = echo
        self._nodes = nodes
        self._programs = programs or Programs()
        self._docker = docker or Docker()
        self._is_leased = False

    @classmethod
    def from_settings(
        cls, folder: Path, *, nodes: int | None = None, echo: Callable[[str], None] = _echo_to_stderr
    ) -> "Stack":
        """Return the stack of a folder, with the external servers of the environment and `.env`."""
        own = read_dotenv(settings.LOCAL_STACK, settings.names())
        values = settings.load().servers.model_dump(by_alias=True)
        external = {name: value for name, value in values.items() if isinstance(value, str) and value != own.get(name)}
        return cls(folder, external=external, echo=echo, nodes=nodes)

    def up(self) -> dict[str, str]:
        """Start the servers that do not run.

        Returns:
            The environment: RABBITMQ_URL, RABBITMQ_MANAGEMENT_URL, DATABASE_URL, REDIS_URL and SMTP_URL. Those of the
            stack's own servers are also written to the file `env` in the folder; no value needs quotes.

        Raises:
            StackError: when a server does not start, with the end of its log.
        """
        with locked(self.folder, echo=self._echo):
            external = self._external_servers(Identity.read(self.folder), State.read(self.folder).ports)
            for server, url in external.items():
                self._echo(f"{LABELS[server]} at {address(url)}: set by {VARIABLES[server]}, left alone")
            if self._nodes is not None and NODES[0] in external:
                raise StackError("--nodes is for own nodes, but RABBITMQ_URL names others; unset one of the two")
            urls = self._start() if len(external) < len(SERVERS) else {}
        return urls | self._external_environment(external)

    def down(self, *, wipe: bool = False) -> None:
        """Stop every server that was started for this folder.

        Args:
            wipe: delete the data too.

        Raises:
            StackError: when the folder is no stack's, but has files with the names of a stack's.
        """
        is_deleted = not is_stack(self.folder)  # its servers may still run
        if is_deleted and (found := contents(self.folder)):
            names = ", ".join(sorted(path.name for path in found))
            raise StackError(
                f"no stack was ever started in {self.folder}, so {names} in it belong to another program; "
                "nothing was deleted"
            )
        with locked(self.folder, echo=self._echo):
            now = self._snapshot()
            if wipe or is_deleted:
                now.backend.destroy()
                delete_state(self.folder)
            else:
                now.backend.stop(SERVERS)
                now.state.keep(kept=False)
                remove(self.folder / "env")

    def status(self) -> list[ServerStatus]:
        now = self._snapshot()
        return [now.status(name) for name in now.names]

    def env(self) -> dict[str, str]:
        """Return the environment of the running stack, like `up`.

        Raises:
            StackError: when a server does not run.
        """
        now = self._snapshot()
        if down := [LABELS[name] for name in now.own if not now.backend.is_running(name)]:
            raise StackError(f"not running: {', '.join(down)}; start the servers: pocketwatch stack up")
        return now.environment() | self._external_environment(now.external)

    def pid(self, name: str) -> int | None:
        """Return the process of a private instance: rabbitmq, postgres, redis or mail; rabbitmq2 or rabbitmq3."""
        return self._snapshot().backend.pid(name)

    def other_mail_server(self) -> str | None:
        """Return where emails go, unless it is to this folder's own mail catcher."""
        now = self._snapshot()
        if "mail" in now.external:
            return f"{address(now.external['mail'])}, which is set by {VARIABLES['mail']}"
        if now.identity.backend == "docker" and (port := now.state.ports.get("mailpit")):
            return f"Mailpit, http://{LOOPBACK}:{port}"
        return None

    @contextmanager
    def lease(self) -> Iterator[dict[str, str]]:
        """Run the servers for the time of the block, and yield their environment.

        At the end, or when this process is killed before, the servers are stopped, unless `up` keeps them or another
        process holds a lease. In the block, `up` of this object restarts servers that have died, without keeping them.
        """
        self._is_leased = True
        try:
            with hold(self.folder):
                yield self.up()
        finally:
            self._is_leased = False
            self.stop_unused()  # if the watchdog was killed or has failed

    def stop_unused(self) -> None:
        """Stop the servers, unless `up` keeps them or a process holds a lease."""
        if not (self.folder / "lock").exists():
            return
        with locked(self.folder, echo=self._echo):
            now = self._snapshot()
            if not now.state.kept and not is_held(self.folder):
                now.backend.stop(SERVERS)
                remove(self.folder / "env")

    def _start(self) -> dict[str, str]:
        if identity := Identity.read(self.folder):
            if identity.backend == "docker" and not self._docker.is_running():
                raise StackError(
                    f"the data of {self.folder} are in Docker, which does not run; start it, or use another --folder"
                )
            return self._bring_up(self._grown(identity))
        if self._nodes in {None, 1} and (compose := self._compose_file()):
            in_docker = self._new_identity(compose)
            try:
                return self._bring_up(in_docker)
            except StackError as error:
                self._echo(f"{error}\nso private instances are used instead")
            with suppress(StackError):
                self._snapshot_of(in_docker).backend.destroy()
        return self._bring_up(self._new_identity(None))

    def _new_identity(self, compose: Path | None) -> Identity:
        """Write an identity for new data; servers and data of a deleted folder may still exist and are destroyed."""
        identity = Identity.new(self.folder, compose=compose, nodes=self._nodes or 1)
        self._snapshot_of(identity).backend.destroy()
        identity.write(self.folder)
        return identity

    def _grown(self, identity: Identity) -> Identity:
        """Return the identity of data with as many nodes as are asked for; those that are missing will join."""
        wanted = self._nodes or identity.nodes
        if wanted == identity.nodes:
            return identity
        if identity.backend == "docker" or wanted < identity.nodes:
            what = "in Docker, which runs one node" if identity.backend == "docker" else f"of {identity.nodes} nodes"
            raise StackError(
                f"the data of {self.folder} are {what}, not {wanted}; omit --nodes, use another --folder, "
                f"or delete the data: pocketwatch stack down --wipe"
            )
        self._snapshot_of(identity).backend.stop(NODES[:1])  # the first node starts again with a cluster's settings
        grown = replace(identity, nodes=wanted)
        grown.write(self.folder)
        return grown

    def _bring_up(self, identity: Identity) -> dict[str, str]:
        now = self._snapshot_of(identity)
        names = now.own
        running = {name for name in names if now.backend.is_running(name)}
        now.backend.up(names)
        if not self._is_leased:
            now.state.keep(kept=True)
        for name in names:
            what = "runs already" if name in running else "started"
            self._echo(f"{LABELS[name]} at {own_address(name, now.state.ports)}: {what}, {identity.backend}")
        urls = now.environment()
        write_private(self.folder / "env", "".join(f"{name}={value}\n" for name, value in urls.items()))
        return urls

    def _snapshot(self) -> Snapshot:
        """Look at the servers; this works without passwords too, whether lost or not yet made."""
        try:
            identity = Identity.read(self.folder) or Identity.new(self.folder, compose=self._compose_file())
        except IdentityLostError:
            in_docker = (self.folder / "compose.env").exists()
            identity = Identity.new(self.folder, compose=Path(FILE).resolve() if in_docker else None)
        return self._snapshot_of(identity)

    def _snapshot_of(self, identity: Identity) -> Snapshot:
        state = State.read(self.folder)
        backend: Backend
        if identity.compose is not None:
            backend = ComposeBackend(
                self.folder, Path(identity.compose), state, identity.passwords, docker=self._docker
            )
        else:
            context = StackContext(
                self.folder,
                identity.node,
                identity.nodes,
                identity.passwords,
                state.ports,
                self._programs,
                self._durable,
            )
            backend = NativeBackend(context, state, echo=self._echo)
        return Snapshot(identity, state, backend, self._external_servers(identity, state.ports))

    def _external_servers(self, identity: Identity | None, ports: Mapping[str, int]) -> dict[str, str]:
        urls = {server: self._external.get(variable) for server, variable in VARIABLES.items()}
        return {
            server: url for server, url in urls.items() if url and not (identity and identity.owns(server, url, ports))
        }

    def _external_environment(self, servers: Mapping[str, str]) -> dict[str, str]:
        urls = {VARIABLES[server]: url for server, url in servers.items()}
        if "rabbitmq" in servers and self._external.get(MANAGEMENT):
            urls[MANAGEMENT] = self._external[MANAGEMENT]
        return urls

    def _compose_file(self) -> Path | None:
        file = Path(FILE).resolve()
        return file if file.exists() and self._docker.is_running() else None
