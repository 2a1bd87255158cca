"""Delete a file whose name another process may give to another file at any moment.

There is no "unlink this very file": between a look at a name and its unlink, a rotation or a deployment may put another
file there. So the file is first renamed to a name that nothing else uses. It is deleted if the file under that name is
the right one and its precondition still holds, and gets its name back otherwise.
"""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

TEMPORARY_SUFFIX = re.compile(r"(?:\.\d+\.pocketwatch)+$")  # of expired files that a killed process leaves


Version = tuple[int, int, int, int]


class Precondition(NamedTuple):
    """What must be true of a file when it is deleted: it is unchanged, and `condition`, if any, still holds."""

    version: Version
    condition: Callable[[], bool] | None

    def holds(self, folder: int, name: str) -> bool:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return version(status) == self.version and (self.condition is None or self.condition())


def version(status: os.stat_result) -> Version:
    """Return the device and inode of a file, its size, and when it was modified: what another file would not share."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def delete(folder: int, name: str, precondition: Precondition) -> bool:
    """Delete a file if its precondition holds, and return whether it was deleted.

    Args:
        folder: an open descriptor.

    Raises:
        OSError: when it cannot be deleted; or cannot be renamed back, then with its temporary name.
    """
    if not precondition.holds(folder, name):
        return False
    temporary = _temporary(name, precondition.version[1], longest=os.fpathconf(folder, "PC_NAME_MAX"))
    os.rename(name, temporary, src_dir_fd=folder, dst_dir_fd=folder)
    deleted = False
    try:
        if precondition.holds(folder, temporary):
            os.unlink(temporary, dir_fd=folder)
            deleted = True
    finally:
        if not deleted:
            _restore(folder, temporary, name)
    return deleted


def _temporary(name: str, inode: int, *, longest: int) -> str:
    """Return a name of at most `longest` bytes; of one that had to be cut, no later run knows the file."""
    suffix = f".{inode}.pocketwatch"
    return os.fsdecode(os.fsencode(name)[: longest - len(suffix)]) + suffix


def _restore(folder: int, temporary: str, name: str) -> None:
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)  # overwrites nothing
        os.unlink(temporary, dir_fd=folder)
    except OSError as error:
        raise OSError(error.errno, f'left as "{temporary}", could not be renamed back: {error.strerror}') from error
