"""Delete old files below a root, so that nothing outside it can be reached, whatever other processes do.

Every step goes through the descriptor of a folder that was opened without following links, below one that was opened
the same way: replacing a folder by a link during the run changes nothing. Other file systems are left alone.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from consumers.cleanup.files.counters import SweepCounters
from consumers.cleanup.files.deleter import BATCH_FILES, BatchDeleter, ExpiredFile
from consumers.cleanup.files.folder import OPEN_FOLDER, Folder, open_root
from consumers.cleanup.files.safe_delete import Precondition
from pocketwatch.errors import Reject

MAX_DEPTH = 128  # folders within folders; each level holds two descriptors
SHARE_APPLIES_ABOVE = 1000  # files; of fewer, a large share is no sign of a mistake


class SweepRule(Protocol):
    """Decides where age alone does not; made for one pass, which then leaves every folder in place.

    The files of a folder come after everything below it, so state for one folder at a time is enough.
    """

    statistics: dict[str, int]

    def enter(self, folder: Folder) -> None:
        """See a folder as a whole, before its files are asked for one by one."""

    def may_delete(self, folder: Folder, name: str, status: os.stat_result) -> Callable[[], bool] | None:
        """Return None to keep this regular file, else what must still hold when a thread deletes it."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is to be deleted below a root, which must not be missing or a symbolic link.

    Args:
        root: an absolute path.
        older_than: modification time in seconds since the epoch; older files may be deleted.
        rule: what else must be true of a file; called with the root, which stays open during the pass.
        max_share: a larger share than this, of more than a thousand files, is taken for a mistake.
        stop: polled; True ends the run early.
    """

    root: Path
    older_than: float
    rule: Callable[[Folder], SweepRule] | None = None
    max_share: float = 1.0
    stop: Callable[[], bool] = lambda: False

    def survey(self) -> SweepCounters:
        """Count what `delete` would do."""
        return TreeSweeper(self, SweepCounters(), dry_run=True).run()

    def delete(self, counters: SweepCounters | None = None) -> SweepCounters:
        """Delete files, and the folders that are left empty; `counters` is filled meanwhile."""
        return TreeSweeper(self, counters or SweepCounters(), dry_run=False).run()

    def check_share(self, survey: SweepCounters) -> None:
        """Reject a sweep that would delete more than is plausible."""
        if survey.files_seen <= SHARE_APPLIES_ABOVE or survey.files_deleted <= self.max_share * survey.files_seen:
            return
        raise Reject(
            f'root "{self.root}": {survey.files_deleted} of {survey.files_seen} files are old, more than the share of '
            f"{self.max_share:g} that one run may delete; nothing was deleted. If that is right: --set max_share=1"
        )


class TreeSweeper:
    """One pass over the tree: this thread scans, those of the deleter delete."""

    def __init__(self, sweep: Sweep, counters: SweepCounters, *, dry_run: bool) -> None:
        self._sweep, self._counters = sweep, counters
        self._deleter = BatchDeleter(counters, dry_run=dry_run)
        self._device = -1
        self._rule: SweepRule | None = None

    def run(self) -> SweepCounters:
        root = open_root(self._sweep.root)
        self._device = os.fstat(root.descriptor).st_dev
        self._make_rule(root)
        with self._deleter.running():
            self._scan(root)
        return self._counters

    def _make_rule(self, root: Folder) -> None:
        if self._sweep.rule is None:
            return
        try:
            self._rule = self._sweep.rule(root)
        except BaseException:
            os.close(root.descriptor)
            raise
        self._counters.rule = self._rule.statistics

    def _scan(self, folder: Folder) -> None:
        expired: list[ExpiredFile] = []
        try:
            if self._rule is not None:
                folder.keep = True
                self._scan_folders(folder)
                self._rule.enter(folder)
            self._scan_entries(folder, expired)
        except OSError as error:
            self._fail(folder, folder.path, error)
        self._hand_over(folder, expired)
        self._deleter.finish(folder)

    def _scan_folders(self, folder: Folder) -> None:
        with os.scandir(folder.descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) and not self._counters.stopped:
                    self._scan_below(folder, entry.name)

    def _scan_entries(self, folder: Folder, expired: list[ExpiredFile]) -> None:
        with os.scandir(folder.descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if self._rule is None:
                        self._scan_below(folder, entry.name)
                elif (file := self._expired(folder, entry)) is not None:
                    expired.append(file)
                    if len(expired) == BATCH_FILES:
                        self._hand_over(folder, expired)
                if self._counters.stopped:
                    folder.keep = True
                    break

    def _scan_below(self, parent: Folder, name: str) -> None:
        """Scan a folder, unless it is gone, on another file system, or cannot be opened."""
        try:
            if parent.depth == MAX_DEPTH:
                raise OSError(f"deeper than {MAX_DEPTH} folders")  # noqa: TRY301  counted like every other
            descriptor = os.open(name, OPEN_FOLDER, dir_fd=parent.descriptor)
        except FileNotFoundError:
            parent.changed = True  # removed by another process
            return
        except OSError as error:
            self._fail(parent, f"{parent.path}{name}/", error)
            return
        status = os.fstat(descriptor)
        if status.st_dev != self._device:
            os.close(descriptor)
            parent.keep = True
            return
        with self._counters.lock:
            parent.pending += 1
        self._scan(Folder(parent, name, descriptor, old=status.st_mtime < self._sweep.older_than))

    def _expired(self, folder: Folder, entry: "os.DirEntry[str]") -> ExpiredFile | None:
        """Return None for a file that stays: too new, kept by the rule, not regular, or on another file system."""
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            folder.changed = True  # deleted by another process
            return None
        except OSError as error:
            self._fail(folder, folder.path + entry.name, error)
            return None
        is_ours = stat.S_ISREG(status.st_mode) and status.st_dev == self._device
        self._counters.files_seen += is_ours
        is_old = status.st_mtime < self._sweep.older_than
        freed = status.st_size if status.st_nlink == 1 else 0
        if is_ours and self._rule is not None:
            condition = self._rule.may_delete(folder, entry.name, status)
            if condition is not None and is_old:
                return ExpiredFile(entry.name, freed, Precondition(status, condition))
        elif is_ours and is_old:
            return ExpiredFile(entry.name, freed, None)
        folder.keep = True
        return None

    def _hand_over(self, folder: Folder, expired: list[ExpiredFile]) -> None:
        stopped = self._counters.stopped or self._deleter.failure is not None or self._sweep.stop()
        self._counters.stopped = stopped
        if expired:
            self._deleter.add(folder, expired.copy())
            expired.clear()

    def _fail(self, folder: Folder, path: str, error: OSError) -> None:
        folder.keep = True
        self._counters.add_error(path, error)
