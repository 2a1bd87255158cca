"""Leases: servers run while `up` keeps them, or while the process of a user holds a lease.

A lease is a shared lock on the file `users`, which the kernel releases when the process ends, even by SIGKILL. A
watchdog process then stops the servers, if no other process holds a lease.
"""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketwatch.stack.processes import PROJECT

WATCHDOG_TIMEOUT = 120.0  # seconds; it may have to wait for another command


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    with (folder / "users").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def is_held(folder: Path) -> bool:
    with (folder / "users").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def watchdog(folder: Path) -> Iterator[None]:
    """Have a process outlive this one, and stop the servers then; at the end of the block, wait for its end.

    It reads a pipe that only this process holds open. (A child forked without exec keeps it open too.)
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pocketwatch.stack.watchdog", str(folder)]
    with (folder / "watchdog.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  our own interpreter
            command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        try:
            process.communicate(timeout=WATCHDOG_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
