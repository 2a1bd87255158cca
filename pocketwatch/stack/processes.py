"""Start processes that outlive the command that started them, recognise them later, and end them."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketwatch.stack.files import open_private

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The caller's http_proxy, PG*, RABBITMQ_*, ERL_* or locale would change how a server behaves.
ENVIRONMENT = {"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8"}
PRIVATE = 0o077  # the umask of servers: data, logs and cookies are their own, whatever the caller's is
PROJECT = Path(__file__).parents[2]  # from where `python -m` finds our modules
POLL = 0.02  # seconds
KILL_TIMEOUT = 10.0  # seconds; the kernel may have to finish a write first


@dataclass(frozen=True)
class Process:
    """A process known by its pid and its start time, so that a recycled pid is not mistaken for it."""

    pid: int
    start_time: int  # clock ticks since the machine's boot

    @property
    def alive(self) -> bool:
        """False for a zombie too: in a container, no process may ever reap it."""
        return start_time(self.pid) == self.start_time

    def send(self, number: signal.Signals) -> None:
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
    """A program to start, without a shell."""

    command: list[str]
    cwd: Path = Path("/")
    environment: Mapping[str, str] | None = field(default_factory=lambda: ENVIRONMENT)  # None: the caller's
    account: Account | None = None  # None: the caller's
    umask: int = PRIVATE  # -1: the caller's

    def options(self) -> dict[str, Any]:
        """Return the arguments of `subprocess.Popen`."""
        switch = {"user": self.account.uid, "group": self.account.gid, "extra_groups": []} if self.account else {}
        return {"args": self.command, "cwd": self.cwd, "env": self.environment, "umask": self.umask, **switch}


def launch(program: Launch, *, log: Path) -> Process:
    """Start a program that outlives this process; its output is appended to the log."""
    with open_private(log, "ab") as output:
        child = subprocess.Popen(
            **program.options(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that Ctrl-C in this terminal does not reach it
        )
    process = Process(child.pid, start_time(child.pid) or 0)
    threading.Thread(target=child.wait, daemon=True).start()  # reaps it, if it ends before us
    return process


def run(program: Launch, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; `options` are those of `subprocess.run`.

    Raises:
        subprocess.TimeoutExpired: when it was killed after its option `timeout`.
    """
    defaults = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(**program.options(), **defaults | options, text=True, errors="replace", check=False)


def terminate(processes: Iterable[tuple[Process, signal.Signals]], *, timeout: float) -> None:
    """Send each process its own signal; kill those that are left after `timeout` seconds."""
    alive = [(process, number) for process, number in processes if process.alive]
    for process, number in alive:
        process.send(number)
        process.send(signal.SIGCONT)  # a suspended process would not handle the signal
    if not wait_until_gone([process for process, _ in alive], timeout=timeout):
        for process, _ in alive:
            process.send(signal.SIGKILL)
        wait_until_gone([process for process, _ in alive], timeout=KILL_TIMEOUT)


def wait_until_gone(processes: Iterable[Process], *, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while any(process.alive for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def find_processes(programs: Collection[str], folders: Collection[Path]) -> list[Process]:
    """Return the running programs with one of these names whose working directory is in one of the folders.

    Args:
        programs: names as in `/proc/PID/comm`; of a program that `python -m` runs, its module's.
        folders: they may have been deleted.
    """
    found = []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        with suppress(OSError):
            program = _module(pid) or Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
            if program in programs and _works_in(pid, program, folders):
                found.append(Process(pid, start_time(pid) or 0))
    return found


def start_time(pid: int) -> int | None:
    """Return when a living process started."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()  # the program's name before them may contain blanks and parentheses
        # A killed process of many threads is a zombie before the last of them has closed its files and ports.
        is_gone = fields[0] in "ZX" and len(list(Path(f"/proc/{pid}/task").iterdir())) <= 1
        return None if is_gone else int(fields[19])
    return None


def _module(pid: int) -> str | None:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return os.fsdecode(words[2]) if words[1:2] == [b"-m"] and len(words) > 2 else None  # noqa: PLR2004  python -m name


def _works_in(pid: int, program: str, folders: Iterable[Path]) -> bool:
    if program == "epmd":  # RabbitMQ's tools start one that works in "/"
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        return any(b"HOME=" + os.fsencode(folder) in environment for folder in folders)
    cwd = Path(str(Path(f"/proc/{pid}/cwd").readlink()).removesuffix(" (deleted)"))
    return any(cwd.is_relative_to(folder) for folder in folders)
