"""Leases: servers run while `up` keeps them, or while a process holds a lease.

A lease is a shared lock on the file `users`. It belongs to a watchdog process, which outlives its user: when that ends,
even by SIGKILL, it releases the lock and stops the servers, if no other lease is held.
"""

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketwatch.stack.files import make_folder, open_private
from pocketwatch.stack.processes import PROJECT

WATCHDOG_TIMEOUT = 120.0  # seconds; it may have to wait for another command


def is_held(folder: Path) -> bool:
    with open_private(folder / "users", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold a lease for the time of the block, and wait until its watchdog has ended.

    The watchdog reads a pipe that only this process holds open. (A child forked without exec keeps it open too.)
    """
    make_folder(folder)
    with open_private(folder / "users", "ab") as lock, open_private(folder / "watchdog.log", "wb") as log:
        # This process must not keep the lock itself: when it is killed, the pipe may be closed before the lock.
        fcntl.flock(lock, fcntl.LOCK_SH)
        watchdog = subprocess.Popen(  # noqa: S603  our own interpreter
            [sys.executable, "-m", "pocketwatch.stack.watchdog", str(folder), str(lock.fileno())],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
    try:
        yield
    finally:
        try:
            watchdog.communicate(timeout=WATCHDOG_TIMEOUT)
        except subprocess.TimeoutExpired:
            watchdog.kill()
            watchdog.wait()
