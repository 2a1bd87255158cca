"""What a server of the native backend consists of."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pocketwatch.errors import StackError
from pocketwatch.stack.native.programs import Programs
from pocketwatch.stack.processes import Launch
from pocketwatch.stack.servers import LABELS


@dataclass(frozen=True)
class StackContext:
    """What the servers of one stack share."""

    folder: Path
    node: str  # the name of RabbitMQ's first node
    nodes: int
    passwords: Mapping[str, str]
    ports: Mapping[str, int]  # a port that is taken is replaced before its server starts
    programs: Programs
    durable: bool


class Server(ABC):
    """A server that runs as one process, with a data folder and a log of its own."""

    name: str
    ports: tuple[str, ...]
    processes: ClassVar[frozenset[str]]  # names of its programs while they start and run, for `find_processes`
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, context: StackContext) -> None:
        self.context = context

    @property
    def kind(self) -> str:
        """The server of which it is a part."""
        return self.name

    @property
    def joins(self) -> bool:
        """Whether it joins others at its first start, which must be ready before."""
        return False

    @property
    def log(self) -> Path:
        return self.context.folder / f"{self.name}.log"

    @property
    def password(self) -> str:
        return self.context.passwords.get(self.kind, "")

    def folders(self) -> list[Path]:
        """Return where its processes work; some may not exist."""
        return [self.context.folder / self.name]

    def make_home(self) -> Path:
        home = self.context.folder / self.name
        home.mkdir(mode=0o700, exist_ok=True)
        return home

    @abstractmethod
    def prepare(self) -> Launch:
        """Write its files and return how to start it."""

    def after_start(self) -> None:  # noqa: B027  most servers need nothing
        """Do what is necessary once it is ready."""

    def before_stop(self) -> None:  # noqa: B027  most servers need nothing
        """Do what is necessary while it still runs."""

    def require(self, program: Path | None) -> Path:
        """Return a program's path.

        Raises:
            StackError: when the program was not found.
        """
        if program is None:
            raise StackError(f"the programs of {LABELS[self.name]} were removed from this machine; install them again")
        return program
