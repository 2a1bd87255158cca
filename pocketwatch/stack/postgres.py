"""A private PostgreSQL. It refuses to run as root, so root lends it to an unprivileged user."""

import os
import pwd
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pocketwatch.errors import StackError
from pocketwatch.stack.files import last_lines, remove, size
from pocketwatch.stack.ports import digest
from pocketwatch.stack.probes import USER, postgres_is_ready
from pocketwatch.stack.processes import Account, Launch, run
from pocketwatch.stack.server import Place, needed
from pocketwatch.stack.urls import DATABASE

# For data when the checkout lies where the unprivileged user cannot go. Not /var/tmp: that is cleaned by age.
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
# For tests: a crash of the machine may cost the data. The kill of a server may not, as tests kill servers; so
# synchronous_commit stays on, which without fsync costs next to nothing.
NOT_DURABLE = ("fsync=off", "full_page_writes=off")


class Postgres:
    """Listens on TCP only, with a password: any user of the machine reaches the loopback interface."""

    name = part_of = "postgres"
    ports = ("postgres",)
    stop_signal = signal.SIGINT  # SIGTERM would wait for clients to leave

    def __init__(self, place: Place) -> None:
        self._place = place

    def prepare(self) -> Launch:
        """Make the data folder, with our user and database in it, unless it is there."""
        data = self.data()
        if not data.exists():
            self._create(data)
        # Stale for certain: we hold the lock, and no server runs. Left there, a zombie of that number blocks the start.
        (data / "postmaster.pid").unlink(missing_ok=True)
        options = [f"-c{option}" for option in OPTIONS + (() if self._place.durable else NOT_DURABLE)]
        command = [self._program("postgres", data), "-D", str(data), f"-p{self._place.ports['postgres']}", *options]
        return Launch(command, cwd=data.parent, account=self._account(data))

    def is_ready(self) -> bool:
        """It asks for a password."""
        return postgres_is_ready(self._place.ports, self._place.passwords[self.name])

    def after_start(self) -> None:
        """Nothing."""

    def before_stop(self) -> None:
        """Nothing."""

    def data(self) -> Path:
        """The data folder, there or not."""
        inside = self._place.folder / self.name
        if os.getuid() != 0 or _can_enter(self._place.folder, _unprivileged()):
            return inside
        return ELSEWHERE / digest(self._place.folder)

    def wipe(self) -> None:
        """Delete the data, wherever they are."""
        for data in (self._place.folder / self.name, ELSEWHERE / digest(self._place.folder)):
            remove(_unfinished(data))
            remove(data)
        with suppress(OSError):
            ELSEWHERE.rmdir()  # when it was the last one's

    def _create(self, data: Path) -> None:
        """Whole or not at all: under another name until it is done."""
        unfinished = _unfinished(data)
        remove(unfinished)
        if data.parent == ELSEWHERE:
            ELSEWHERE.mkdir(exist_ok=True)
            ELSEWHERE.chmod(0o755)  # whatever our umask says
        unfinished.mkdir(mode=0o700)
        if account := self._account(unfinished):
            os.chown(unfinished, account.uid, account.gid)
        self._initialise(unfinished)
        self._make_database(unfinished)
        unfinished.rename(data)

    def _initialise(self, data: Path) -> None:
        command = [self._program("initdb", data), "-D", str(data), "-U", USER, "-A", "scram-sha-256"]
        command += ["--pwfile=/dev/stdin", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"]
        if not self._place.durable:
            command.append("--no-sync")
        self._run(command, data, given=f"{self._place.passwords[self.name]}\n")

    def _make_database(self, data: Path) -> None:
        """Without a server: one process that reads statements, a line each."""
        command = [self._program("postgres", data), "--single", "-D", str(data), "-cexit_on_error=on"]
        if not self._place.durable:
            command.append("-cfsync=off")
        self._run([*command, "postgres"], data, given=f"CREATE DATABASE {DATABASE}\n")

    def _run(self, command: list[str], data: Path, *, given: str) -> None:
        log, account = self._place.folder / "postgres.log", self._account(data)
        before = size(log)
        with log.open("ab") as output, _pipe(given, account) as stdin:
            result = run(Launch(command, cwd=data, account=account), stdin=stdin, output=output)
        if result.returncode:
            raise StackError(f"PostgreSQL's data cannot be made; the end of {log}:\n{last_lines(log, since=before)}")

    def _account(self, data: Path) -> Account | None:
        """As root: the owner of the data, or whom they will belong to."""
        if os.getuid() != 0:
            return None
        if data.exists() and (owner := data.stat()).st_uid != 0:
            return Account(owner.st_uid, owner.st_gid)
        return _unprivileged()

    def _program(self, name: str, data: Path) -> str:
        """Of the version that made the data; another one could not read them."""
        version = data / "PG_VERSION"
        made_by = version.read_text(encoding="utf-8").strip() if version.exists() else None
        return str(needed(self._place.programs.postgres(made_by), self.name) / name)


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
    """A text to read: a password is neither in a file nor among the arguments."""
    reading, writing = os.pipe()
    try:
        if account:
            os.fchown(reading, account.uid, account.gid)  # or /dev/stdin could not be opened
        os.write(writing, text.encode())
        os.close(writing)
        yield reading
    finally:
        os.close(reading)
