"""Which files somebody holds open, as far as that can be known."""

import fcntl
import os
import signal
import stat
import time
from dataclasses import dataclass

FRESH_FOR = 2.0  # seconds; looking at every descriptor of every process takes some milliseconds

OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Held:
    """The files that the processes of this machine hold open.

    Args:
        files: by device and inode.
        complete: every process could be looked into. Not so for other users' processes, unless we are root.
        seen_at: on the monotonic clock.
    """

    files: frozenset[tuple[int, int]]
    complete: bool
    seen_at: float


class OpenFiles:
    """Asks two witnesses, for neither knows all.

    /proc shows the descriptors of those processes that we may look into. The kernel grants a lease on a file that
    nobody else has open, in whatever container, but only on our own files, unless we are root.
    """

    def __init__(self) -> None:
        self._held = look_around()

    def is_held(self, folder: int, name: str, status: os.stat_result) -> bool | None:
        """Whether somebody holds this file open; None when neither witness can tell."""
        if time.monotonic() - self._held.seen_at > FRESH_FOR:
            self._held = look_around()
        if (status.st_dev, status.st_ino) in self._held.files:
            return True
        leased = is_leased_elsewhere(folder, name, status)
        return False if leased is None and self._held.complete else leased


def look_around() -> Held:
    """Look at every descriptor of every process."""
    files: set[tuple[int, int]] = set()
    complete = os.path.exists("/proc/1")  # noqa: PTH110  where /proc hides the processes of others, it hides the first
    for process in os.listdir("/proc") if os.path.isdir("/proc") else ():  # noqa: PTH112,PTH208
        if process.isdecimal():
            try:
                files |= _files_of(f"/proc/{process}/fd")
            except PermissionError:
                complete = False
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
    return Held(frozenset(files), complete, time.monotonic())


def _files_of(folder: str) -> set[tuple[int, int]]:
    files: set[tuple[int, int]] = set()
    for descriptor in os.listdir(folder):  # noqa: PTH208  thousands, at their barest
        try:
            status = os.stat(f"{folder}/{descriptor}")  # noqa: PTH116
        except FileNotFoundError:
            continue  # closed meanwhile
        if stat.S_ISREG(status.st_mode):
            files.add((status.st_dev, status.st_ino))
    return files


def is_leased_elsewhere(folder: int, name: str, status: os.stat_result) -> bool | None:
    """Whether the kernel refuses us a lease because somebody has this file open; None when we may not ask."""
    try:
        descriptor = os.open(name, OPEN_FILE, dir_fd=folder)
    except OSError:
        return None
    try:
        if not os.path.samestat(os.fstat(descriptor), status):
            return None
        # Who opens the file in this very moment makes the kernel signal us: by a signal that is ignored, not by SIGIO.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None  # not our file, or a file system without leases
    finally:
        os.close(descriptor)
    return False
