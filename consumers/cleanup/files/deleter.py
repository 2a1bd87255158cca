"""Delete expired files in batches, by several threads: deleting waits for the disk, scanning does not.

Right before each file is deleted, its folder must still be where it was found: below the root, through folders that
were not moved, replaced or covered by a mount. Between this check and the system call that follows, a folder can
still be moved: one file of each thread is all that can be deleted then where the folder is now.
"""

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Semaphore
from typing import NamedTuple

from consumers.cleanup.files import safe_delete
from consumers.cleanup.files.counters import SweepCounters
from consumers.cleanup.files.folder import Folder, RootUnusable, mount_of
from consumers.cleanup.files.safe_delete import Precondition

THREADS = 6
BATCH_FILES, BATCH_FOLDERS = 64, 16  # folders, because each is held open
OPEN_PATH = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC  # opens no content
MAX_BATCHES = (
    3 * THREADS
)  # running and waiting: few, so that a file is deleted within milliseconds of being scanned, or checked


class ExpiredFile(NamedTuple):
    """A file to delete, if its precondition still holds then."""

    name: str
    freed: int  # bytes
    precondition: Precondition


Batch = list[tuple[Folder, list[ExpiredFile]]]


class BatchDeleter:
    """Deletes files, and then the folders that they leave empty; a dry run only counts them."""

    def __init__(self, counters: SweepCounters, *, dry_run: bool) -> None:
        self._counters, self._dry_run = counters, dry_run
        self._batch: Batch = []
        self._pool = ThreadPoolExecutor(THREADS)  # starts a thread only for a batch
        self._slots = Semaphore(MAX_BATCHES)
        self.failure: Exception | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """On return everything added is deleted; raise what a precondition has raised."""
        with self._pool:
            yield
            self._flush()
        if self.failure is not None:
            raise self.failure

    def add(self, folder: Folder, files: list[ExpiredFile]) -> None:
        with self._counters.lock:
            folder.pending += 1
        self._batch.append((folder, files))
        if len(self._batch) == BATCH_FOLDERS or sum(len(part) for _, part in self._batch) >= BATCH_FILES:
            self._flush()

    def finish(self, folder: Folder | None) -> None:
        """Note that a part of a folder is done; after the last, close it, and remove it if it is empty."""
        while folder is not None:
            with self._counters.lock:
                folder.pending -= 1
                if folder.pending:
                    return
            if folder.parent is not None:
                self._leave(folder, folder.parent)
                os.close(folder.descriptor)
            folder = folder.parent

    def _leave(self, folder: Folder, parent: Folder) -> None:
        # A folder that was found empty may be about to be filled: only an old one is removed.
        removed = not folder.keep and (folder.changed or folder.old) and self._remove(folder, parent)
        with self._counters.lock:
            parent.changed = parent.changed or removed
            parent.keep = parent.keep or not removed
            self._counters.directories_removed += removed

    def _remove(self, folder: Folder, parent: Folder) -> bool:
        if self._dry_run:
            return True
        with suppress(OSError, RootUnusable):  # no longer empty, or no longer there
            folder.check_in_place()
            os.rmdir(folder.name, dir_fd=parent.descriptor)
            return True
        return False

    def _flush(self) -> None:
        batch, self._batch = self._batch, []
        self._slots.acquire()
        if self._dry_run:
            self._delete_batch(batch)
        else:
            self._pool.submit(self._delete_batch, batch)

    def _delete_batch(self, batch: Batch) -> None:
        for folder, files in batch:
            try:
                self._delete_files(folder, files)
            except Exception as error:  # noqa: BLE001  raised when all threads have ended
                self.failure = error
        self._slots.release()

    def _delete_files(self, folder: Folder, files: list[ExpiredFile]) -> None:
        try:
            freed = [file.freed for file in files if self._dry_run or self._delete(folder, file)]
            with self._counters.lock:
                folder.changed = True
                self._counters.files_deleted += len(freed)
                self._counters.bytes_freed += sum(freed)
        finally:
            self.finish(folder)

    def _delete(self, folder: Folder, file: ExpiredFile) -> bool:
        try:
            folder.check_in_place()
            if file.precondition.condition is not None:
                return safe_delete.delete(folder.descriptor, file.name, file.precondition)
            if not file.precondition.holds(folder.descriptor, file.name):
                return False
            os.unlink(file.name, dir_fd=folder.descriptor)
        except FileNotFoundError:
            return False  # deleted by another process
        except OSError as error:
            folder.keep = True
            if error.errno == errno.EBUSY and is_mount_point(folder, file.name):
                self._counters.add_mount()
            else:
                self._counters.add_error(folder.path + file.name, error)
            return False
        return True


def is_mount_point(folder: Folder, name: str) -> bool:
    """Return whether another file is mounted over this one."""
    try:
        descriptor = os.open(name, OPEN_PATH, dir_fd=folder.descriptor)
    except OSError:
        return False
    try:
        return mount_of(descriptor) != mount_of(folder.descriptor)
    finally:
        os.close(descriptor)
