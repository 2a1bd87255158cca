"""What is known of the servers of a folder at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass

from pocketwatch.stack import probes
from pocketwatch.stack.compose import ComposeBackend
from pocketwatch.stack.native.backend import NativeBackend
from pocketwatch.stack.servers import NODES, SERVERS, VARIABLES, address, environment, own_address
from pocketwatch.stack.state import Identity, State

Backend = ComposeBackend | NativeBackend


@dataclass(frozen=True)
class ServerStatus:
    name: str  # rabbitmq, postgres, redis or mail; of a cluster also rabbitmq2 and rabbitmq3
    source: str  # external, docker or native
    ready: bool
    pid: int | None  # of a private instance
    address: str
    detail: str


@dataclass(frozen=True)
class Snapshot:
    """What is known of a folder's servers at one moment."""

    identity: Identity
    state: State
    backend: Backend
    external: Mapping[str, str]  # URLs by server

    @property
    def own(self) -> list[str]:
        return [name for name in self.names if name not in self.external]

    @property
    def names(self) -> list[str]:
        """All servers; of a cluster that the stack runs, each node."""
        nodes = NODES[:1] if NODES[0] in self.external else NODES[: self.identity.nodes]
        return [*nodes, *SERVERS[1:]]

    def environment(self) -> dict[str, str]:
        return environment(self.own, ports=self.state.ports, passwords=self.identity.passwords)

    def status(self, server: str) -> ServerStatus:
        if url := self.external.get(server):
            ready = probes.is_reachable(url)
            detail = f"set by {VARIABLES[server]}, {'reachable' if ready else 'not reachable'}"
            return ServerStatus(server, "external", ready, None, address(url), detail)
        running = self.backend.is_running(server)
        ready = running and self.backend.is_ready(server)
        detail = "ready" if ready else "does not answer" if running else "not running"
        own = own_address(server, self.state.ports)
        return ServerStatus(server, self.identity.backend, ready, self.backend.pid(server), own, detail)
