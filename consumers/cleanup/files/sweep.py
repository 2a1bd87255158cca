"""Delete old files below a root, so that nothing outside it can be reached, whatever other processes do.

Every step goes through the descriptor of a folder that was opened without following links, below one that was opened
the same way: replacing a folder by a link during the run changes nothing. Other mounts are left alone, also those of
the same file system (bind mounts), and so are the roots of other clean-ups. The root is opened once for both passes.
"""

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from consumers.cleanup.files.counters import SweepCounters
from consumers.cleanup.files.deleter import BATCH_FILES, BatchDeleter, ExpiredFile, is_mount_point
from consumers.cleanup.files.folder import OPEN_FOLDER, Folder, identity, mount_of, open_root, readable
from consumers.cleanup.files.safe_delete import Precondition, version
from pocketwatch.errors import Reject

MAX_DEPTH = 128  # folders within folders; each level holds two descriptors
SHARE_APPLIES_ABOVE = 1000  # files; of fewer, a large share is no sign of a mistake
CHECK_FILES, CHECK_FOLDERS = 16_384, 256  # that are checked at a time; folders, because each is held open


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
        in_use: returns which of these files, by their paths below the root, must stay; asked about many at a time,
            right before they are deleted.
        max_share: a larger share than this, of more than a thousand files, is taken for a mistake.
        others: roots of other clean-ups, which are not entered.
        stop: polled; True ends the run early.
    """

    root: Path
    older_than: float
    rule: Callable[[Folder], SweepRule] | None = None
    in_use: Callable[[Sequence[str]], set[str]] | None = None
    max_share: float = 1.0
    others: tuple[Path | None, ...] = ()
    stop: Callable[[], bool] = lambda: False

    def survey(self, counters: SweepCounters | None = None) -> SweepCounters:
        """Count what `delete` would do."""
        with open_root(self.root) as root:
            return TreeSweeper(self, root, counters or SweepCounters(), dry_run=True).run()

    def delete(self, counters: SweepCounters | None = None) -> SweepCounters:
        """Survey, then delete files and the folders that are left empty; `counters` is filled meanwhile.

        Raises:
            RootUnusable: when the root cannot be opened, or is moved or replaced meanwhile.
            Reject: when too large a share would be deleted, or the root holds what is not to be cleaned.
        """
        counters = counters or SweepCounters()
        with open_root(self.root) as root:
            survey = TreeSweeper(self, root, SweepCounters(), dry_run=True, asks=False).run()
            if self.in_use is not None and not survey.stopped and self._exceeds_share(survey):
                survey = TreeSweeper(self, root, SweepCounters(), dry_run=True).run()  # what is in use does not count
            if survey.stopped:
                counters.files_seen, counters.rule, counters.stopped = survey.files_seen, survey.rule, True
                return counters
            self.check_share(survey)
            counters.expected = survey.files_seen
            counters.limit = max(SHARE_APPLIES_ABOVE, int(self.max_share * survey.files_seen))
            return TreeSweeper(self, root, counters, dry_run=False).run()

    def check_share(self, survey: SweepCounters) -> None:
        """Reject a sweep that would delete more than is plausible."""
        if not self._exceeds_share(survey):
            return
        raise Reject(
            f'root "{readable(str(self.root))}": {survey.files_deleted} of {survey.files_seen} files are old, more '
            f"than the share of {self.max_share:g} that one run may delete; nothing was deleted. "
            "If that is right: --set max_share=1"
        )

    def _exceeds_share(self, survey: SweepCounters) -> bool:
        return survey.files_seen > SHARE_APPLIES_ABOVE and survey.files_deleted > self.max_share * survey.files_seen


class TreeSweeper:
    """One pass over the tree: this thread scans, those of the deleter delete."""

    def __init__(self, sweep: Sweep, root: int, counters: SweepCounters, *, dry_run: bool, asks: bool = True) -> None:
        self._sweep, self._counters = sweep, counters
        self._in_use = sweep.in_use if asks else None
        self._root = Folder(None, str(sweep.root), root, older_than=sweep.older_than)
        self._mount, self._others = mount_of(root), self._other_roots()
        self._handed_over = 0
        self._unchecked: list[tuple[Folder, list[ExpiredFile]]] = []
        self._unchecked_files = 0
        self._deleter = BatchDeleter(counters, dry_run=dry_run)
        self._rule = None if sweep.rule is None else sweep.rule(self._root)
        if self._rule is not None:
            counters.rule = self._rule.statistics
        if sweep.in_use is not None:
            counters.rule["kept_referenced"] = 0

    def run(self) -> SweepCounters:
        with self._deleter.running():
            self._scan(self._root)
            self._check()
        self._root.check_in_place()  # what was deleted or unmounted during the pass looked clean
        return self._counters

    def _other_roots(self) -> set[tuple[int, int]]:
        found = set()
        for other in filter(None, self._sweep.others):
            with suppress(OSError):
                found.add(identity(other.stat()))
        if self._root.identity in found:
            raise Reject(f'root "{readable(self._root.name)}": the root of another clean-up too; name one for each')
        return found

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
        """Scan a folder, unless it is gone, another mount, another root, or cannot be opened."""
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
        folder = Folder(parent, name, descriptor, older_than=self._sweep.older_than)
        if (is_mount := mount_of(descriptor) != self._mount) or folder.identity in self._others:
            os.close(descriptor)
            parent.keep = True
            self._counters.mounts_skipped += is_mount
            return
        with self._counters.lock:
            parent.pending += 1
        self._scan(folder)

    def _expired(self, folder: Folder, entry: "os.DirEntry[str]") -> ExpiredFile | None:
        """Return None for a file that stays: too new, kept by the rule, not regular, or mounted over another."""
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            folder.changed = True  # deleted by another process
            return None
        except OSError as error:
            self._fail(folder, folder.path + entry.name, error)
            return None
        is_ours = stat.S_ISREG(status.st_mode) and not self._is_mount(folder, entry, status)
        self._counters.files_seen += is_ours
        is_old = status.st_mtime < self._sweep.older_than
        condition = self._rule.may_delete(folder, entry.name, status) if is_ours and self._rule is not None else None
        if not is_ours or not is_old or (self._rule is not None and condition is None):
            folder.keep = True
            return None
        freed = status.st_size if status.st_nlink == 1 else 0
        return ExpiredFile(entry.name, freed, Precondition(version(status), condition))

    def _is_mount(self, folder: Folder, entry: "os.DirEntry[str]", status: os.stat_result) -> bool:
        """Look closer where the folder and the file differ about the inode, as they do below a mount point."""
        is_mount = entry.inode() != status.st_ino and is_mount_point(folder, entry.name)
        self._counters.mounts_skipped += is_mount
        return is_mount

    def _hand_over(self, folder: Folder, expired: list[ExpiredFile]) -> None:
        stopped = self._counters.stopped or self._deleter.failure is not None or self._sweep.stop()
        self._counters.stopped = stopped
        files = expired.copy()
        expired.clear()
        if self._in_use is None:
            self._delete(folder, files)
        elif files:
            with self._counters.lock:
                folder.pending += 1
            self._unchecked.append((folder, files))
            self._unchecked_files += len(files)
            if self._unchecked_files >= CHECK_FILES or len({id(each) for each, _ in self._unchecked}) >= CHECK_FOLDERS:
                self._check()

    def _check(self) -> None:
        """Delete those of the files found so far that are not in use."""
        parts, self._unchecked, self._unchecked_files = self._unchecked, [], 0
        in_use = self._ask([folder.path + file.name for folder, files in parts for file in files])
        for folder, files in parts:
            free = [file for file in files if folder.path + file.name not in in_use]
            self._counters.rule["kept_referenced"] += len(files) - len(free)
            self._counters.stopped = self._counters.stopped or self._sweep.stop()
            if self._counters.stopped and self._handed_over:  # some progress, for the run to be continued
                free = []
            folder.keep = folder.keep or len(free) < len(files)
            self._delete(folder, free)
            self._deleter.finish(folder)

    def _ask(self, paths: list[str]) -> set[str]:
        if self._in_use is None or not paths:
            return set()
        if self._deleter.failure is None:
            try:
                return self._in_use(paths)
            except Exception as error:  # noqa: BLE001  raised when all threads have ended
                self._deleter.failure = error
        return set(paths)

    def _delete(self, folder: Folder, files: list[ExpiredFile]) -> None:
        self._keep_to_the_limit(folder, files)
        if files:
            self._deleter.add(folder, files)

    def _keep_to_the_limit(self, folder: Folder, expired: list[ExpiredFile]) -> None:
        """Delete no more files than the survey allowed, whatever has been moved below the root since."""
        if self._counters.limit is None:
            return
        allowed = self._counters.limit - self._handed_over
        if len(expired) > allowed:
            folder.keep = self._counters.stopped = self._counters.limit_reached = True
            del expired[allowed:]
        self._handed_over += len(expired)

    def _fail(self, folder: Folder, path: str, error: OSError) -> None:
        folder.keep = True
        self._counters.add_error(path, error)
