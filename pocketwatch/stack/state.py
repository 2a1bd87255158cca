"""The state files of a stack: what its data were created with, what runs now, and the lock."""

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pocketwatch.errors import StackError
from pocketwatch.stack.files import make_folder, open_private, remove, write_private
from pocketwatch.stack.ports import digest
from pocketwatch.stack.processes import Process
from pocketwatch.stack.servers import LABELS, PROTECTED, VARIABLES, environment

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LOGS = {*LABELS, "install", "watchdog", "guard"}  # the last one is of earlier versions
RECORDS = ("compose.env", "state.json", "identity.json", "lock", "users")
FILES = (*LABELS, "postgres.new", "env", *RECORDS)


class IdentityLostError(StackError):
    """Data exist without the identity file that they were created with."""


@dataclass(frozen=True)
class Identity:
    """What the data were created with; kept for as long as the data."""

    node: str  # RabbitMQ's node name; its data folder has this name
    passwords: dict[str, str] = field(repr=False)
    compose: str | None = None  # the path of the compose file, if the servers are in Docker
    nodes: int = 1  # of RabbitMQ

    @property
    def backend(self) -> Literal["docker", "native"]:
        return "docker" if self.compose else "native"

    @classmethod
    def new(cls, folder: Path, *, compose: Path | None, nodes: int = 1) -> "Identity":
        return cls(
            node=f"pocketwatch_{digest(folder)}@localhost",
            passwords={server: secrets.token_hex(16) for server in PROTECTED},
            compose=str(compose) if compose else None,
            nodes=nodes,
        )

    @classmethod
    def read(cls, folder: Path) -> "Identity | None":
        """Return None for a folder without data.

        Raises:
            IdentityLostError: when there are data but no readable record.
            StackError: when the record belongs to another user.
        """
        path = folder / "identity.json"
        if not path.exists() and not any((folder / server).exists() for server in PROTECTED):
            return None
        try:
            values = _load(path)
            return cls(values["node"], dict(values["passwords"]), values["compose"], int(values.get("nodes", 1)))
        except PermissionError as error:
            raise StackError(f"{path} belongs to another user; work as that user, or use another --folder") from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise IdentityLostError(
                f"{path} is missing or damaged, so the passwords of the data beside it are not known; "
                f"put it back, or delete the data: pocketwatch stack down --wipe"
            ) from error

    def owns(self, server: str, url: str, ports: Mapping[str, int]) -> bool:
        """Return whether a URL leads to the stack's own server: by its password, or without one by its port."""
        if server in PROTECTED:
            return urlsplit(url).password == self.passwords[server]
        return url == environment([server], ports=ports, passwords=self.passwords)[VARIABLES[server]]

    def write(self, folder: Path) -> None:
        write_private(folder / "identity.json", json.dumps(asdict(self), indent=1))


@dataclass
class State:
    """What runs now. Losing it costs a restart of the servers, but no data.

    Attributes:
        folder: where it was written; a copy of the folder has no servers.
        boot_id: the boot of the machine in which it was written; after another one, no process is left.
        kept: whether the servers run until `down`, or only while a process holds a lease.
    """

    folder: str
    boot_id: str
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    kept: bool = False

    @classmethod
    def read(cls, folder: Path) -> "State":
        """Return an empty state where there is none, or where it does not apply."""
        state = cls(str(folder), BOOT_ID.read_text(encoding="utf-8").strip() if BOOT_ID.exists() else "")
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            values = _load(folder / "state.json")
            if values["folder"] == state.folder:
                state.ports = dict(values["ports"])
                if values["boot_id"] == state.boot_id:
                    state.processes = {name: Process(**process) for name, process in values["processes"].items()}
                    state.kept = bool(values["kept"])
        return state

    def keep(self, *, kept: bool) -> None:
        self.kept = kept
        self.write()

    def write(self) -> None:
        write_private(Path(self.folder) / "state.json", json.dumps(asdict(self), indent=1))


def is_stack(folder: Path) -> bool:
    """Return whether a stack ever worked in this folder; of some, the watchdog's log is the only file."""
    return any((folder / name).exists() for name in (*RECORDS, "watchdog.log", "guard.log"))


def contents(folder: Path) -> list[Path]:
    """Return what has the names of the servers' data, logs and records; a folder may contain other files."""
    logs = [log for log in folder.glob("*.log") if log.name.split(".")[0] in LOGS]
    return logs + [folder / name for name in FILES if (folder / name).exists()]


def delete_state(folder: Path) -> None:
    """Delete the servers' data, logs and records, and the folder if it is empty then."""
    for path in contents(folder):
        remove(path)
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def locked(folder: Path, *, echo: Callable[[str], None]) -> Iterator[None]:
    """Let one command at a time work on a folder.

    Raises:
        StackError: for every error of the operating system in the block.
    """
    try:
        with _lock(folder, echo):
            yield
    except OSError as error:
        raise StackError(f"{error.filename or folder}: {error.strerror or error}") from error


@contextmanager
def _lock(folder: Path, echo: Callable[[str], None]) -> Iterator[None]:
    path = folder / "lock"
    while True:
        make_folder(folder)
        with open_private(path, "ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                echo("waiting for another command that works on these servers")
                fcntl.flock(file, fcntl.LOCK_EX)
            # `down --wipe` may have deleted the file while we waited; then lock its successor.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                yield
                return


def _load(path: Path) -> dict[str, Any]:
    values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise TypeError(f"{path} is no JSON object")
    return values
