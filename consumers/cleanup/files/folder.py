"""Folders that are opened without following links, so that everything in them is reached through a descriptor."""

import errno
import os
from pathlib import Path

from pocketwatch.errors import PocketwatchError

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

NO_FOLDER = "a symbolic link or not a folder"
UNUSABLE = {errno.ENOENT: "missing; is its disk mounted?", errno.ENOTDIR: NO_FOLDER, errno.ELOOP: NO_FOLDER}


class RootUnusable(PocketwatchError):
    """The root is missing, not a folder, or not permitted: an unmounted disk must not look clean. Retried."""


class Folder:
    """A folder of a sweep: open until it is scanned and everything expired in it is deleted."""

    __slots__ = ("changed", "depth", "descriptor", "keep", "name", "old", "parent", "path", "pending")

    def __init__(self, parent: "Folder | None", name: str, descriptor: int, *, old: bool) -> None:
        self.parent, self.name, self.descriptor = parent, name, descriptor
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.path: str = "" if parent is None else f"{parent.path}{name}/"
        self.old = old
        self.pending = 1  # its own scan, and then its folders and batches
        self.keep = False  # something in it stays
        self.changed = False  # something in it was deleted


def open_root(root: Path) -> Folder:
    try:
        descriptor = os.open(root, OPEN_FOLDER)
    except OSError as error:
        raise RootUnusable(f'root "{root}": {UNUSABLE.get(error.errno or 0, error.strerror)}') from error
    return Folder(None, str(root), descriptor, old=False)
