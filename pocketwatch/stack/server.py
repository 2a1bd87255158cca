"""What the life cycle needs to know of a server, and where a server stands."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pocketwatch.errors import StackError
from pocketwatch.stack.processes import Launch
from pocketwatch.stack.programs import Programs
from pocketwatch.stack.urls import LABELS


@dataclass(frozen=True)
class Place:
    """Where the private servers of one folder stand."""

    folder: Path
    node: str
    passwords: Mapping[str, str]
    ports: Mapping[str, int]  # changes when a port is taken
    programs: Programs
    durable: bool

    def home(self, server: str) -> Path:
        """The folder of one server's data, made when it is not there."""
        home = self.folder / server
        home.mkdir(mode=0o700, exist_ok=True)
        return home


class Server(Protocol):
    """One program that runs for as long as the server does."""

    @property
    def name(self) -> str:
        """Its own name, for the record and the log file."""

    @property
    def part_of(self) -> str:
        """The server that it belongs to: rabbitmq, postgres, redis or mail."""

    @property
    def ports(self) -> tuple[str, ...]:
        """Names of the ports it listens on."""

    @property
    def stop_signal(self) -> signal.Signals:
        """What asks it to stop cleanly."""

    def prepare(self) -> Launch:
        """Write its files; how to start it."""

    def is_ready(self) -> bool:
        """True when it does its work for us."""

    def after_start(self) -> None:
        """What must be done once it is ready."""

    def before_stop(self) -> None:
        """What must be done while it still runs."""


def needed(program: Path | None, server: str) -> Path:
    """A program that was found.

    Raises:
        StackError: when it was not.
    """
    if program is None:
        raise StackError(f"the programs of {LABELS[server]} have gone from this machine; install them again")
    return program
