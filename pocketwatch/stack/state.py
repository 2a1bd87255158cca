"""What a folder remembers of its servers: one lock for every command, what the data were made with, what runs now."""

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from pocketwatch.errors import StackError
from pocketwatch.stack.files import remove, write_private
from pocketwatch.stack.ports import digest
from pocketwatch.stack.processes import Process

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PROTECTED = ("rabbitmq", "postgres", "redis")  # by a password each
SERVERS = (*PROTECTED, "mail")
LOGS = {*SERVERS, "epmd", "install", "guard"}
RECORDS = ("compose.env", "state.json", "identity.json", "lock")
FILES = (*SERVERS, "postgres.new", "env", *RECORDS)


class IdentityLost(StackError):
    """There are data, but nothing says what they were made with."""


@dataclass(frozen=True)
class Identity:
    """What the data were made with. As long as there are data, this must be there too."""

    source: str  # "native" or "docker"
    node: str  # RabbitMQ's name for itself; its data folder is called so
    passwords: dict[str, str] = field(repr=False)
    compose: str | None = None  # the compose file, for Docker

    @classmethod
    def new(cls, folder: Path, *, compose: Path | None) -> "Identity":
        """New passwords, for a folder without data."""
        return cls(
            source="native" if compose is None else "docker",
            node=f"pocketwatch_{digest(folder)}@localhost",
            passwords={server: secrets.token_hex(16) for server in PROTECTED},
            compose=None if compose is None else str(compose),
        )

    @classmethod
    def read(cls, folder: Path) -> "Identity | None":
        """None for a folder that never had servers.

        Raises:
            IdentityLost: when the data are still there.
            StackError: when it is another user's.
        """
        path = folder / "identity.json"
        if not path.exists() and not any((folder / server).exists() for server in PROTECTED):
            return None
        try:
            return cls(**_load(path))
        except PermissionError as error:
            raise StackError(f"{path} belongs to another user; work as that user, or take another --folder") from error
        except (OSError, ValueError, TypeError) as error:
            raise IdentityLost(
                f"{path} is lost or damaged, so the passwords of the data beside it are not known; "
                f"put it back, or delete the data: pocketwatch stack down --wipe"
            ) from error

    def owns(self, server: str, url: str) -> bool:
        """True for a URL of this very server: nobody else has its password."""
        return urlsplit(url).password == self.passwords[server]

    def write(self, folder: Path) -> None:
        """Keep it."""
        write_private(folder / "identity.json", json.dumps(asdict(self), indent=1))


@dataclass
class State:
    """What runs now. When it is lost, nothing is: it is made anew, and servers that it does not name are stopped.

    Attributes:
        folder: where it was written; in a copy of the folder it says nothing.
        boot: the machine's start in which it was written; after another one no process is ours.
        holders: who wants a server to run: "up" until `down`, and each use that a guard watches until its end.
    """

    folder: str
    boot: str
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    holders: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "State":
        """An empty one where there is none, or one that does not apply here and now."""
        fresh = cls(str(folder), BOOT_ID.read_text(encoding="utf-8").strip() if BOOT_ID.exists() else "")
        try:
            values = _load(folder / "state.json")
            values["processes"] = {name: Process(**process) for name, process in values["processes"].items()}
            known = cls(**values)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return fresh
        if known.folder != fresh.folder:
            return fresh
        if known.boot != fresh.boot:
            fresh.ports = known.ports
            return fresh
        return known

    def write(self) -> None:
        """Keep it; a reader sees the old one or this one, never half of it."""
        write_private(Path(self.folder) / "state.json", json.dumps(asdict(self), indent=1))

    def hold(self, servers: Iterable[str], *, holder: str) -> None:
        """Note who wants these servers to run."""
        for server in servers:
            holders = self.holders.setdefault(server, [])
            if holder not in holders:
                holders.append(holder)
        self.write()

    def release(self, holder: str) -> list[str]:
        """Forget a holder; the servers that nobody wants any more."""
        let_go = [server for server, holders in self.holders.items() if holder in holders]
        for server in let_go:
            self.holders[server].remove(holder)
        unwanted = [server for server in let_go if not self.holders[server]]
        self.write()
        return unwanted

    def release_all(self) -> None:
        """Nobody wants any of them."""
        self.holders.clear()
        self.write()

    def forget_holders(self, servers: Iterable[str]) -> None:
        """For servers that do not run, as they did not start."""
        for server in servers:
            self.holders.pop(server, None)
        self.write()


def is_ours(folder: Path) -> bool:
    """Whether a stack has ever worked in this folder; the guard's log is the first thing that some make."""
    return any((folder / record).exists() for record in (*RECORDS, "guard.log"))


def contents(folder: Path) -> list[Path]:
    """What is there by the names of the servers' data, logs and records; the folder may hold other things."""
    logs = [log for log in folder.glob("*.log") if log.name.split(".")[0] in LOGS]
    return logs + [folder / name for name in FILES if (folder / name).exists()]


def forget(folder: Path) -> None:
    """Delete the servers' data, logs and records."""
    for path in contents(folder):
        remove(path)
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def locked(folder: Path, *, say: Callable[[str], None]) -> Iterator[None]:
    """One command at a time works on a folder; a second one waits.

    Raises:
        StackError: when a file cannot be written, or whatever else the system refuses.
    """
    try:
        with _lock(folder, say):
            yield
    except OSError as error:
        raise StackError(f"{error.filename or folder}: {error.strerror or error}") from error


@contextmanager
def _lock(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """A lock file that was deleted by `down --wipe` while we waited for it locks nothing: then take the new one."""
    path = folder / "lock"
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            _wait_for(file, say)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def _wait_for(file: IO[bytes], say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another command that works on these servers")
        fcntl.flock(file, fcntl.LOCK_EX)


def _load(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise TypeError(f"{path} holds no table")
    return values
