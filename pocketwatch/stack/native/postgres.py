"""A private PostgreSQL. It refuses to run as root; root starts it as an unprivileged user."""

import os
import pwd
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pocketwatch.errors import StackError
from pocketwatch.stack.files import open_private, remove, tail
from pocketwatch.stack.native.server import Server
from pocketwatch.stack.ports import digest
from pocketwatch.stack.processes import Account, Launch, run
from pocketwatch.stack.servers import DATABASE, USER

# For the data of a folder that the unprivileged user cannot enter. Not /var/tmp: that is cleaned by age.
ELSEWHERE = Path("/var/lib/pocketwatch")
USERS = ("postgres", "nobody")
OPTIONS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",  # the path of a socket may not be longer than 107 bytes
    "max_connections=200",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
)
# For tests: a crash of the machine may lose data. The kill of a server may not, as tests kill servers; therefore
# synchronous_commit stays on, which costs next to nothing without fsync.
NOT_DURABLE = ("fsync=off", "full_page_writes=off")


class Postgres(Server):
    """It listens on TCP only, and requires a password: any user of the machine reaches the loopback interface."""

    name = "postgres"
    ports = ("postgres",)
    processes = frozenset({"postgres", "initdb"})
    stop_signal = signal.SIGINT  # SIGTERM would wait for clients to disconnect

    def prepare(self) -> Launch:
        data = self._data()
        if not data.exists():
            self._create(data)
        # Stale, as no other server can run here. A zombie with the pid in it would prevent the start.
        (data / "postmaster.pid").unlink(missing_ok=True)
        options = [f"-c{option}" for option in OPTIONS + (() if self.context.durable else NOT_DURABLE)]
        command = [self._program("postgres", data), "-D", str(data), f"-p{self.context.ports['postgres']}", *options]
        return Launch(command, cwd=data, account=self._account(data))

    def folders(self) -> list[Path]:
        """Return the possible data folders, finished and unfinished."""
        possible = [self.context.folder / self.name, ELSEWHERE / digest(self.context.folder)]
        return [*possible, *map(_unfinished, possible)]

    def delete_data(self) -> None:
        for folder in self.folders():
            remove(folder)
        with suppress(OSError):
            ELSEWHERE.rmdir()  # if it is empty

    def _data(self) -> Path:
        inside, elsewhere, *_ = self.folders()
        is_inside = os.getuid() != 0 or _can_enter(self.context.folder, _unprivileged())
        return inside if is_inside else elsewhere

    def _create(self, data: Path) -> None:
        """Create the data folder atomically: it has another name until it is complete."""
        unfinished = _unfinished(data)
        remove(unfinished)
        if data.parent == ELSEWHERE:
            ELSEWHERE.mkdir(exist_ok=True)
            ELSEWHERE.chmod(0o755)  # despite a strict or a loose umask
        unfinished.mkdir(mode=0o700)
        if account := self._account(unfinished):
            os.chown(unfinished, account.uid, account.gid)
        self._initialize(unfinished)
        self._create_database(unfinished)
        unfinished.rename(data)

    def _initialize(self, data: Path) -> None:
        command = [self._program("initdb", data), "-D", str(data), "-U", USER, "-A", "scram-sha-256"]
        command += ["--pwfile=/dev/stdin", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        if not self.context.durable:
            command.append("--no-sync")
        self._run(command, data, stdin=f"{self.password}\n")

    def _create_database(self, data: Path) -> None:
        """Create the database in single-user mode, which reads one statement a line."""
        command = [self._program("postgres", data), "--single", "-D", str(data), "-cexit_on_error=on"]
        if not self.context.durable:
            command.append("-cfsync=off")
        self._run([*command, "postgres"], data, stdin=f"CREATE DATABASE {DATABASE}\n")

    def _run(self, command: list[str], data: Path, *, stdin: str) -> None:
        account = self._account(data)
        with open_private(self.log, "ab") as output, _pipe(stdin, account) as pipe:
            result = run(Launch(command, cwd=data, account=account), stdin=pipe, stdout=output, stderr=output)
        if result.returncode:
            raise StackError(f"PostgreSQL's data folder cannot be created; the end of {self.log}:\n{tail(self.log)}")

    def _account(self, data: Path) -> Account | None:
        """As root, return the owner of the data, or the user who will own them."""
        if os.getuid() != 0:
            return None
        if data.exists() and (owner := data.stat()).st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
        return _unprivileged()

    def _program(self, name: str, data: Path) -> str:
        """Return a program of the major version that created the data; another one cannot read them."""
        version = data / "PG_VERSION"
        created_by = version.read_text(encoding="utf-8").strip() if version.exists() else None
        return str(self.require(self.context.programs.postgres(created_by)) / name)


def _unfinished(data: Path) -> Path:
    return data.with_name(f"{data.name}.new")


def _unprivileged() -> Account:
    for name in USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(user.pw_uid, user.pw_gid)
    raise StackError(f"PostgreSQL cannot run as root, and this machine has no user {' or '.join(USERS)}")


def _can_enter(folder: Path, account: Account) -> bool:
    return run(Launch(["test", "-x", str(folder)], account=account)).returncode == 0


@contextmanager
def _pipe(text: str, account: Account | None) -> Iterator[int]:
    """Pass a text that holds a password neither in a file nor as an argument."""
    reading, writing = os.pipe()
    try:
        if account:
            os.fchown(reading, account.uid, account.gid)  # so that it may open /dev/stdin
        os.write(writing, text.encode())
        os.close(writing)
        yield reading
    finally:
        os.close(reading)
