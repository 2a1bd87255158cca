"""Deleting old files below a root, so that nothing outside it can be touched, whatever happens meanwhile.

Every step goes through the descriptor of a folder that was opened without following links, below one that was opened
the same way: a folder that is swapped for a link during the run changes nothing. Other file systems are left alone.

One thread looks, a few delete: deleting waits on the disk, and looking does not.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Protocol

from consumers.cleanup.files import safe_delete
from consumers.cleanup.files.safe_delete import Proof
from pocketwatch.errors import PocketwatchError, Reject

THREADS = 6
PARCEL_FILES, PARCEL_FOLDERS = 64, 16  # that a deleting thread takes at a time; folders, because each is held open
QUEUED = 2 * THREADS  # parcels that wait: few, so that a file goes within milliseconds of being looked at
DEEPEST = 128  # folders within folders; each level holds two descriptors
EXAMPLES = 5  # errors that are told by name
SHARE_APPLIES_ABOVE = 1000  # files; for fewer, a large share is no sign of a mistake

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


# Why a root cannot be opened; for anything else, the system's own words.
NO_FOLDER = "a symbolic link or no folder"
UNUSABLE = {errno.ENOENT: "missing; is its disk mounted?", errno.ENOTDIR: NO_FOLDER, errno.ELOOP: NO_FOLDER}


class RootUnusable(PocketwatchError):
    """The root is missing, no folder, or closed to us: an unmounted disk must not look clean. Tried again later."""


@dataclass
class Figures:
    """What a run has seen and done."""

    files_seen: int = 0
    files_deleted: int = 0
    bytes_freed: int = 0
    directories_removed: int = 0
    errors: int = 0
    more: dict[str, int] = field(default_factory=dict)  # counts of the sweep's rule
    examples: list[str] = field(default_factory=list)
    stopped: bool = False  # before the end, because it was told to

    def statistics(self) -> dict[str, int]:
        """For the log row."""
        names = ("files_seen", "files_deleted", "bytes_freed", "directories_removed", "errors")
        return {name: getattr(self, name) for name in names} | self.more


class Rule(Protocol):
    """Decides where the age of a file does not; made anew for each pass, which leaves every folder in place.

    The files of a folder come after everything below it, so a table of one folder at a time is enough.
    """

    statistics: dict[str, int]  # counts of its own; all are there from the start

    def look(self, folder: "Folder") -> None:
        """See a folder as a whole, before its files are asked for one by one."""

    def doomed(self, folder: "Folder", name: str, status: os.stat_result) -> Callable[[], bool] | None:
        """None when this regular file stays; else what must still be true when it goes, asked by a deleting thread."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is to be deleted below a root.

    Args:
        root: an absolute path; when its last part is a symbolic link, the run is refused.
        older_than: modification time in seconds since the epoch; files that are older may go.
        rule: what else must be true of a file; called with the root, which stays open until the pass is over.
        max_share: more than this share of more than a thousand files is taken for a mistake.
        stop: asked now and then; True ends the run early.
    """

    root: Path
    older_than: float
    rule: Callable[["Folder"], Rule] | None = None
    max_share: float = 1.0
    stop: Callable[[], bool] = lambda: False

    def survey(self) -> Figures:
        """Count what `delete` would do.

        Raises:
            RootUnusable: when the root is missing or no folder.
        """
        return Walk(self, delete=False).run()

    def delete(self, figures: Figures | None = None) -> Figures:
        """Delete, and remove the folders that are left empty; the root stays.

        Args:
            figures: filled while the run goes on, so that others can look on.

        Raises:
            RootUnusable: as `survey`.
        """
        return Walk(self, delete=True, figures=figures).run()

    def check_share(self, survey: Figures) -> None:
        """Stop before the first deletion when it would destroy more than is plausible.

        Raises:
            GiveUp: saying the figures, and how to override the limit.
        """
        if survey.files_seen <= SHARE_APPLIES_ABOVE or survey.files_deleted <= self.max_share * survey.files_seen:
            return
        raise Reject(
            f"{survey.files_deleted} of {survey.files_seen} files below {self.root} would go, more than the share of "
            f"{self.max_share:g} that one run may destroy; nothing was deleted. If that is right: --set max_share=1"
        )


class Folder:
    """A folder in work: open until it is looked through and everything in it that goes is gone."""

    __slots__ = ("depth", "descriptor", "kept", "name", "old", "parent", "path", "pending", "touched")

    def __init__(self, parent: "Folder | None", name: str, descriptor: int, *, old: bool) -> None:
        self.parent, self.name, self.descriptor = parent, name, descriptor
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.path: str = "" if parent is None else f"{parent.path}{name}/"
        self.old = old
        self.pending = 1  # its own look-through; then its chunks and folders too
        self.kept = False  # something stays in it
        self.touched = False  # something has gone from it


Going = tuple[str, int, Proof | None]  # a name, the bytes that it will free, and why it goes if not for its age alone
Doomed = list[Going]  # in one folder
Parcel = list[tuple[Folder, Doomed]]


class Walk:
    """One pass over the tree."""

    def __init__(self, sweep: Sweep, *, delete: bool, figures: Figures | None = None) -> None:
        self._sweep, self._delete = sweep, delete
        self._figures = figures or Figures()
        self._parcel: Parcel = []  # being filled
        self._parcels: Queue[Parcel | None] = Queue(QUEUED)
        self._lock = threading.Lock()
        self._device = -1
        self._rule: Rule | None = None
        self._failure: Exception | None = None

    def run(self) -> Figures:
        """Look through everything; return when the last file has gone."""
        root = self._open_root()
        self._ask_rule(root)
        threads = [threading.Thread(target=self._work) for _ in range(THREADS if self._delete else 0)]
        for thread in threads:
            thread.start()
        try:
            self._look_through(root)
            self._send()
        finally:
            for _ in threads:
                self._parcels.put(None)
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure
        return self._figures

    def _open_root(self) -> Folder:
        root = self._sweep.root
        try:
            descriptor = os.open(root, OPEN_FOLDER)
        except OSError as error:
            reason = UNUSABLE.get(error.errno or 0) or f"not to be opened: {error.strerror}"
            raise RootUnusable(f'the root "{root}" is {reason}') from error
        self._device = os.fstat(descriptor).st_dev
        return Folder(None, str(root), descriptor, old=False)

    def _ask_rule(self, root: Folder) -> None:
        if self._sweep.rule is None:
            return
        try:
            self._rule = self._sweep.rule(root)
        except BaseException:
            os.close(root.descriptor)
            raise
        self._figures.more = self._rule.statistics

    def _look_through(self, folder: Folder) -> None:
        """Sort what is in a folder; what goes is packed for the deleting threads."""
        doomed: Doomed = []
        try:
            if self._rule is not None:
                self._look_below(folder)
                self._rule.look(folder)
            with os.scandir(folder.descriptor) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if self._rule is None:
                            self._enter(folder, entry.name)
                    elif (going := self._going(folder, entry)) is not None:
                        doomed.append(going)
                        doomed = self._pack(folder, doomed) if len(doomed) == PARCEL_FILES else doomed
                    if self._figures.stopped:
                        folder.kept = True
                        break
        except OSError as error:
            self._error(folder, folder.path, error)
        self._pack(folder, doomed)
        self._done(folder)

    def _look_below(self, folder: Folder) -> None:
        folder.kept = True
        with os.scandir(folder.descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and not self._figures.stopped:
                    self._enter(folder, entry.name)

    def _enter(self, parent: Folder, name: str) -> None:
        """Look through a folder, unless it is gone, on another file system, or cannot be opened."""
        try:
            if parent.depth == DEEPEST:
                raise OSError(f"deeper than {DEEPEST} folders")  # noqa: TRY301  told like every other
            descriptor = os.open(name, OPEN_FOLDER, dir_fd=parent.descriptor)
        except FileNotFoundError:
            parent.touched = True  # somebody else has removed it
            return
        except OSError as error:
            self._error(parent, f"{parent.path}{name}/", error)
            return
        status = os.fstat(descriptor)
        if status.st_dev != self._device:
            os.close(descriptor)
            parent.kept = True
            return
        with self._lock:
            parent.pending += 1
        self._look_through(Folder(parent, name, descriptor, old=status.st_mtime < self._sweep.older_than))

    def _going(self, folder: Folder, entry: "os.DirEntry[str]") -> Going | None:
        """None when this file stays: too new, wanted, or no regular file of ours."""
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            folder.touched = True  # somebody else has deleted it
            return None
        except OSError as error:
            self._error(folder, folder.path + entry.name, error)
            return None
        ours = stat.S_ISREG(status.st_mode) and status.st_dev == self._device
        self._figures.files_seen += ours
        old = status.st_mtime < self._sweep.older_than
        freed = status.st_size if status.st_nlink == 1 else 0
        if ours and self._rule is not None:
            still = self._rule.doomed(folder, entry.name, status)
            if still is not None and old:
                return entry.name, freed, Proof(status, still)
        elif ours and old:
            return entry.name, freed, None
        folder.kept = True
        return None

    def _pack(self, folder: Folder, doomed: Doomed) -> Doomed:
        """Have these deleted; returns the next, empty list."""
        self._figures.stopped = self._figures.stopped or self._failure is not None or self._sweep.stop()
        if not doomed:
            return doomed
        with self._lock:
            folder.pending += 1
        self._parcel.append((folder, doomed))
        if len(self._parcel) == PARCEL_FOLDERS or sum(len(part) for _, part in self._parcel) >= PARCEL_FILES:
            self._send()
        return []

    def _send(self) -> None:
        parcel, self._parcel = self._parcel, []
        if self._delete:
            self._parcels.put(parcel)
        else:
            self._delete_parcel(parcel)

    def _work(self) -> None:
        while (parcel := self._parcels.get()) is not None:
            self._delete_parcel(parcel)

    def _delete_parcel(self, parcel: Parcel) -> None:
        for folder, doomed in parcel:
            try:
                self._delete_part(folder, doomed)
            except Exception as error:  # noqa: BLE001  told at the end; a thread that died would leave others waiting
                self._failure = error

    def _delete_part(self, folder: Folder, doomed: Doomed) -> None:
        try:
            freed = [size for name, size, proof in doomed if not self._delete or self._unlink(folder, name, proof)]
            with self._lock:
                folder.touched = True
                self._figures.files_deleted += len(freed)
                self._figures.bytes_freed += sum(freed)
        finally:
            self._done(folder)

    def _unlink(self, folder: Folder, name: str, proof: Proof | None) -> bool:
        try:
            if proof is not None:
                return safe_delete.delete(folder.descriptor, name, proof)
            os.unlink(name, dir_fd=folder.descriptor)
        except FileNotFoundError:
            return False  # somebody else has deleted it
        except OSError as error:
            self._error(folder, folder.path + name, error)
            return False
        return True

    def _error(self, folder: Folder, path: str, error: OSError) -> None:
        with self._lock:
            folder.kept = True
            self._figures.errors += 1
            if len(self._figures.examples) < EXAMPLES:
                self._figures.examples.append(f"{path}: {error.strerror or error}")

    def _done(self, folder: Folder | None) -> None:
        """A part of this folder is done; with the last one it is removed if it is empty, and its parent is told."""
        while folder is not None:
            with self._lock:
                folder.pending -= 1
                if folder.pending:
                    return
            os.close(folder.descriptor)
            if folder.parent is not None:
                self._leave(folder, folder.parent)
            folder = folder.parent

    def _leave(self, folder: Folder, parent: Folder) -> None:
        # A folder that was found empty may be about to be filled; only an old one goes.
        gone = not folder.kept and (folder.touched or folder.old) and self._remove(folder.name, parent)
        with self._lock:
            parent.touched = parent.touched or gone
            parent.kept = parent.kept or not gone
            self._figures.directories_removed += gone

    def _remove(self, name: str, parent: Folder) -> bool:
        if self._delete:
            with suppress(OSError):  # filled meanwhile
                os.rmdir(name, dir_fd=parent.descriptor)
                return True
            return False
        return True
