"""Delete hashed static files of old releases that the manifest no longer names.

A version is deleted when all of this is true: its name is one that Django's hashing makes (`jquery.min.js` to
`jquery.min.<12 hex>.js`); its original is named by the manifest or is beside it, so that chunks hashed by a bundler are
no versions; the manifest names neither it nor the file that it compresses; and it is older than the retention and no
newer than the manifest, which is written last. Originals, unknown files and the manifest stay.

The manifest is checked again right before a file is deleted: a release that is out by then keeps it. A release that is
still being collected is not seen. It may rely on an old version that existed when it looked and is deleted before its
manifest is written; Django does not look twice. Do not deploy while this runs.
"""

import asyncio
import os
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

from consumers.cleanup.files import manifest
from consumers.cleanup.files.folder import Folder, open_root, readable
from consumers.cleanup.files.job import root_to_clean, run_sweep_job
from consumers.cleanup.files.manifest import ManifestUnusable
from consumers.cleanup.files.safe_delete import TEMPORARY_SUFFIX
from consumers.cleanup.files.sweep import Sweep
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanStaticFiles

VERSION = re.compile(r"(?P<root>.+)\.[0-9a-f]{12}(?P<extension>(?:\.[^.]*)?)", re.DOTALL)
COMPRESSED = re.compile(r"\.(?:gz|br|zst)$")


@consumer
async def clean_static_files(tick: CleanStaticFiles, job: JobContext) -> None:
    root = await root_to_clean(job, job.settings.files.static_root, setting="POCKETWATCH_STATIC_ROOT")
    if root is None:
        return
    if not await asyncio.to_thread(_has_manifest, root):
        job.mark_skipped(
            f'manifest "{readable(str(root))}/{manifest.NAME}": missing, so no file is known to be unused; '
            "use Django's ManifestStaticFilesStorage, and set POCKETWATCH_STATIC_ROOT to its folder"
        )
        return
    cutoff = (job.now - timedelta(days=tick.retention_days)).timestamp()
    sweep = Sweep(
        root=root, older_than=cutoff, rule=partial(UnreferencedFiles, older_than=cutoff), max_share=tick.max_share
    )
    await run_sweep_job(sweep, job)


def _has_manifest(root: Path) -> bool:
    with open_root(root) as descriptor:
        return manifest.identity(descriptor) is not None


class UnreferencedFiles:
    """The sweep rule: hashed files that no manifest read during the sweep names.

    Raises:
        ManifestUnusable: when the manifest cannot be read, or names no file that exists.
        Reject: when it is complete but wrong.
    """

    def __init__(self, root: Folder, *, older_than: float) -> None:
        self.statistics = {"named": 0}
        self._root, self._older_than = root, older_than
        self._lock = threading.Lock()  # deleting threads ask too
        current = manifest.read(root.descriptor, readable(root.name))
        self._names, self._written_at, self._identity = current.names, current.written_at, current.identity
        if not any(_exists(root, name) for name in current.names):
            raise ManifestUnusable(
                f'manifest "{readable(root.name)}/{manifest.NAME}": names no file that exists; '
                "it belongs to another folder"
            )

    def enter(self, folder: Folder) -> None:
        pass

    def may_delete(self, folder: Folder, name: str, status: os.stat_result) -> Callable[[], bool] | None:
        if folder.path + name in self._names:
            self.statistics["named"] += 1
            return None
        bases = bases_of(name)
        paths = [folder.path + base for base in bases]
        old = status.st_mtime < self._older_than and status.st_mtime <= self._written_at
        if not old or not self._names.isdisjoint(paths):
            return None
        if not any(self._is_old_version(folder, base) for base in bases):
            return None
        return partial(self._are_still_unnamed, paths)

    def _is_old_version(self, folder: Folder, base: str) -> bool:
        original = original_of(base)
        if original is None:
            return False
        known = folder.path + original in self._names or _exists(folder, original)
        return known and not self._is_young(folder, base)

    def _is_young(self, folder: Folder, base: str) -> bool:
        """Whether the file itself stays: its compressed form is not deleted before it, though it may be older."""
        try:
            return os.stat(base, dir_fd=folder.descriptor, follow_symlinks=False).st_mtime >= self._older_than
        except FileNotFoundError:
            return False

    def _are_still_unnamed(self, paths: list[str]) -> bool:
        with self._lock:
            if manifest.identity(self._root.descriptor) != self._identity:
                newer = manifest.read(self._root.descriptor, readable(self._root.name))
                self._names, self._identity = self._names | newer.names, newer.identity
            return self._names.isdisjoint(paths)


def bases_of(name: str) -> list[str]:
    """Return the names as which a file may be a version: its own, without a temporary suffix, and uncompressed."""
    whole = TEMPORARY_SUFFIX.sub("", name)
    return list(dict.fromkeys((name, whole, COMPRESSED.sub("", whole))))


def original_of(name: str) -> str | None:
    """Return the file of which this is a version, as Django names them: the hash is before the last extension."""
    match = VERSION.fullmatch(name)
    if match is None:
        return None
    original = match["root"] + match["extension"]
    return original if os.path.splitext(original)[1] == match["extension"] else None  # noqa: PTH122  Django's own


def _exists(folder: Folder, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder.descriptor, follow_symlinks=False)  # collectstatic --link leaves links
    except (OSError, ValueError):
        return False
    return True
