"""Folders that are opened without following links, so that everything in them is reached through a descriptor."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pocketwatch.errors import PocketwatchError, Reject
from pocketwatch.text import printable, shorten

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_PATH = 300  # characters of a path in an error

NO_FOLDER = "a symbolic link or not a folder"
UNUSABLE = {errno.ENOENT: "missing; is its disk mounted?", errno.ENOTDIR: NO_FOLDER, errno.ELOOP: NO_FOLDER}
MOVED = "moved, replaced or covered by a mount during the run"


class RootUnusable(PocketwatchError):
    """The root is missing, not a folder, or not permitted: an unmounted disk must not look clean. Retried."""


class Folder:
    """A folder of a sweep: open until it is scanned and everything expired in it is deleted; the root stays open."""

    __slots__ = ("changed", "depth", "descriptor", "identity", "keep", "name", "old", "parent", "path", "pending")

    def __init__(self, parent: "Folder | None", name: str, descriptor: int, *, older_than: float) -> None:
        self.parent, self.name, self.descriptor = parent, name, descriptor
        status = os.fstat(descriptor)
        self.identity = identity(status)
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.path: str = "" if parent is None else f"{parent.path}{name}/"
        self.old = status.st_mtime < older_than
        self.pending = 1  # its own scan, and then its folders and batches
        self.keep = False  # something in it stays
        self.changed = False  # something in it was deleted

    def check_in_place(self) -> None:
        """Check that its path still leads to it, so that a folder which was moved out of the root is not emptied.

        Raises:
            FileNotFoundError: when it was moved or deleted.
            OSError: when something else is in its place.
            RootUnusable: when this is true of the root.
        """
        folder = self
        while folder.parent is not None:
            found = os.stat(folder.name, dir_fd=folder.parent.descriptor, follow_symlinks=False)
            if (found.st_dev, found.st_ino) != folder.identity:
                raise OSError(errno.ESTALE, f"its folder was {MOVED}")
            folder = folder.parent
        with suppress(OSError):
            if identity(os.lstat(folder.name)) == folder.identity:
                return
        raise RootUnusable(f'root "{readable(folder.name)}": {MOVED}')


@contextmanager
def open_root(root: Path) -> Iterator[int]:
    """Open a root for all passes of a sweep, so that it cannot be replaced between them.

    Raises:
        RootUnusable: when it cannot be opened.
        Reject: when it contains the home directory of this process's user, as `/` does.
    """
    try:
        descriptor = os.open(root, OPEN_FOLDER)
    except OSError as error:
        reason = UNUSABLE.get(error.errno or 0, error.strerror)
        raise RootUnusable(f'root "{readable(str(root))}": {reason}') from error
    try:
        if identity(os.fstat(descriptor)) in _folders_around_home():
            raise Reject(f'root "{readable(str(root))}": contains the home directory; name a folder of its own')
        yield descriptor
    finally:
        os.close(descriptor)


def identity(status: os.stat_result) -> tuple[int, int]:
    """Return what distinguishes a file from every other that exists at the same time."""
    return status.st_dev, status.st_ino


def mount_of(descriptor: int) -> tuple[int, int]:
    """Return what distinguishes the mount of an open file: its device, which bind mounts share, and its number.

    The number is 0 on a system that does not provide it.
    """
    device = os.fstat(descriptor).st_dev
    with suppress(FileNotFoundError), open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as info:  # noqa: PTH123  one system call less for each folder
        return device, next((int(line.split()[1]) for line in info if line.startswith("mnt_id:")), 0)
    return device, 0


def readable(path: str) -> str:
    r"""Return a path for people and logs: bytes that are not UTF-8 as `\xNN`, and no line ends."""
    return shorten(printable(path, keep=""), MAX_PATH)


def _folders_around_home() -> set[tuple[int, int]]:
    found = set()
    home = Path("~").expanduser() if os.path.expanduser("~") != "~" else Path("/")  # noqa: PTH111  pathlib raises
    for folder in (home, *home.parents, Path("/")):
        with suppress(OSError):
            found.add(identity(folder.stat()))
    return found
