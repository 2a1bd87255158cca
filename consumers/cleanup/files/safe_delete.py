"""Deleting a file whose name others may give to another file at any moment.

There is no "unlink this very file": between a look at a name and its unlink, a rotation or a deploy may put something
else there. So the file is renamed first, to a name that nobody else uses; what is then found under that name goes only
if it is the file that was meant and nothing speaks for it by now. Otherwise it goes back.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

LEFT_ASIDE = re.compile(r"(?:\.\d+\.pocketwatch)+$")  # what a killed process leaves: a doomed file under such a name


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen of a file when it was doomed.

    Args:
        status: what it was.
        still: whether what doomed it is still so; asked again when the file has been put aside.
    """

    status: os.stat_result
    still: Callable[[], bool]

    def holds(self, folder: int, name: str) -> bool:
        """The name stands for this file, unchanged, and it may still go."""
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        return _identity(status) == _identity(self.status) and self.still()


def delete(folder: int, name: str, proof: Proof) -> bool:
    """Delete the file that was meant, and no other; False when it stays.

    Args:
        folder: an open descriptor.

    Raises:
        OSError: when it cannot be deleted; or cannot be put back, then saying under which name it is.
    """
    if not proof.holds(folder, name):
        return False
    aside = f"{name}.{proof.status.st_ino}.pocketwatch"
    os.rename(name, aside, src_dir_fd=folder, dst_dir_fd=folder)
    deleted = False
    try:
        if proof.holds(folder, aside):
            os.unlink(aside, dir_fd=folder)
            deleted = True
    finally:
        if not deleted:
            _put_back(folder, aside, name)
    return deleted


def _put_back(folder: int, aside: str, name: str) -> None:
    try:
        os.link(aside, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)  # overwrites nothing
        os.unlink(aside, dir_fd=folder)
    except OSError as error:
        raise OSError(error.errno, f'stays as "{aside}", it could not be put back: {error.strerror}') from error


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
