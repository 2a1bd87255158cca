"""How the servers are."""

from dataclasses import dataclass

from pocketwatch.stack import probes
from pocketwatch.stack.ports import LOOPBACK
from pocketwatch.stack.source import Source
from pocketwatch.stack.state import State
from pocketwatch.stack.urls import VARIABLES, main_port


@dataclass(frozen=True)
class ServerStatus:
    """How one server is."""

    name: str  # rabbitmq, postgres, redis or mail
    source: str  # given, docker or native
    ready: bool
    pid: int | None  # of a private instance
    address: str
    detail: str


def of_given(server: str, url: str) -> ServerStatus:
    """A server that somebody else runs: only whether it can be reached."""
    ready = probes.is_reachable(url)
    detail = f"given by {VARIABLES[server]}, {'reachable' if ready else 'not reachable'}"
    return ServerStatus(server, "given", ready, None, probes.address(url), detail)


def of_ours(server: str, kind: str, source: Source, state: State) -> ServerStatus:
    """A server of this stack."""
    running = source.is_running(server)
    ready = running and source.is_ready(server)
    detail = "ready" if ready else "does not answer" if running else "not running"
    port = main_port(server, state.ports)
    return ServerStatus(server, kind, ready, source.pid(server), f"{LOOPBACK}:{port}" if port else "", detail)
