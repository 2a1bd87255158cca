"""Processes: starting one that outlives us, knowing it again later, and ending it."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a server runs with; the caller's http_proxy, PG*, RABBITMQ_*, ERL_* or locale would change what it does.
ENVIRONMENT = {"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8"}
POLL = 0.02  # seconds
KILL_PATIENCE = 10.0  # seconds; the kernel may have to finish a write first


@dataclass(frozen=True)
class Process:
    """A process that we started. The pid alone may belong to somebody else by now, with its start time it cannot."""

    pid: int
    started: int  # clock ticks from the machine's start

    @property
    def alive(self) -> bool:
        """False also for a zombie: in a container nobody may ever reap it."""
        return started(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass(frozen=True)
class Account:
    """The user that a program runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Launch:
    """A program to start; never through a shell."""

    command: list[str]
    cwd: Path = Path("/")
    environment: Mapping[str, str] | None = field(default_factory=lambda: ENVIRONMENT)  # None: the caller's
    account: Account | None = None  # the caller's by default


def launch(program: Launch, *, log: Path) -> Process:
    """Start a program that lives on when we end; what it prints is appended to the log."""
    account = program.account
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603  the programs of the servers
            program.command,
            cwd=program.cwd,
            env=program.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that Ctrl-C in our terminal does not reach it
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    process = Process(child.pid, started(child.pid) or 0)
    # When it dies before us, somebody must wait for it, or it stays a zombie.
    threading.Thread(target=child.wait, daemon=True).start()
    return process


def run(
    program: Launch, *, stdin: int = subprocess.DEVNULL, output: IO[bytes] | None = None, patience: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Args:
        program: what to run.
        stdin: what it reads.
        output: where it writes; the result's `stdout` and `stderr` by default.
        patience: kill it after so many seconds.

    Raises:
        TimeoutError: when it was killed.
    """
    account = program.account
    try:
        return subprocess.run(  # noqa: S603  the programs of the servers
            program.command,
            cwd=program.cwd,
            env=program.environment,
            stdin=stdin,
            stdout=output or subprocess.PIPE,
            stderr=output or subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=patience,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{program.command[0]} was stopped after {patience:g} s") from error


def end(processes: Iterable[tuple[Process, signal.Signals]], *, patience: float) -> None:
    """Ask all of them to stop, each with its own signal; kill what is left after `patience` seconds."""
    alive = [process for process, _ in processes if process.alive]
    for process, number in processes:
        process.send(number)
        process.send(signal.SIGCONT)  # a stopped process would not even see the signal
    if not wait_until_gone(alive, patience=patience):
        for process in alive:
            process.send(signal.SIGKILL)
        wait_until_gone(alive, patience=KILL_PATIENCE)


def wait_until_gone(processes: Iterable[Process], *, patience: float) -> bool:
    """True when none of them is left."""
    deadline = time.monotonic() + patience
    while any(process.alive for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def started(pid: int) -> int | None:
    """When a living process started, in clock ticks from the machine's start."""
    with suppress(OSError):
        state, _, ticks = _stat(pid)
        return None if state in "ZX" and _has_no_threads(pid) else ticks
    return None


def strays(*, programs: frozenset[str], homes: Iterable[Path], known: Iterable[Process]) -> list[Process]:
    """Servers that run in one of our folders and that no record names.

    Args:
        programs: names as in /proc/PID/comm; of one that Python runs (`-m`), its module's.
        homes: their working folder lies in one of these.
        known: not these, nor their children.
    """
    recorded = {process.pid for process in known if process.alive}
    found = []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with suppress(OSError):
            _, parent, ticks = _stat(pid)
            program = _module(pid) or _comm(pid)
            if program in programs and not recorded & {pid, parent} and _lives_in(pid, program, homes):
                found.append(Process(pid, ticks))
    return found


def _stat(pid: int) -> tuple[str, int, int]:
    """State, parent, start time; the program's name before them may contain blanks and parentheses."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[19])


def _has_no_threads(pid: int) -> bool:
    """A killed process of many threads is a zombie before the last of them has let go of files and ports."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()


def _module(pid: int) -> str | None:
    """What Python runs there, when it was told to run a module."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return os.fsdecode(words[2]) if words[1:2] == [b"-m"] and len(words) > 2 else None  # noqa: PLR2004  python -m name


def _lives_in(pid: int, program: str, homes: Iterable[Path]) -> bool:
    if program == "epmd":  # one that RabbitMQ started itself stands in "/", but still tells whose it is
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return any(b"HOME=" + os.fsencode(home) in environment for home in homes)
    # When somebody has deleted the folder, the kernel says so at the end of its name.
    cwd = Path(str(Path(f"/proc/{pid}/cwd").readlink()).removesuffix(" (deleted)"))
    return any(cwd.is_relative_to(home) for home in homes)
