"""Static files of old releases: once a week, hashed versions that the manifest no longer names go, when they are old.

A version goes when all of this is true: Django would have hashed it so (`jquery.min.js` to `jquery.min.<12 hex>.js`);
its original is named by the manifest or lies beside it, so that chunks which a bundler has hashed are no versions; the
manifest names neither it nor what it is a compressed form of; and it is older than the retention and no newer than the
manifest, which is written last. Originals, what is unknown, and the manifest stay.

The manifest is looked at again when a file has been put aside and is about to go: a release that is out by then keeps
it. A release that is still being collected is not seen. It may count on an old version that lay there when it looked,
and that goes before its manifest is written; Django does not look twice. Do not deploy while this runs.
"""

import os
import re
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from consumers.cleanup.files import job, manifest
from consumers.cleanup.files.manifest import ManifestUnusable
from consumers.cleanup.files.safe_delete import LEFT_ASIDE
from consumers.cleanup.files.sweep import Folder, Sweep
from pocketwatch.errors import Reject
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanStaticFiles

VERSION = re.compile(r"(?P<root>.+)\.[0-9a-f]{12}(?P<extension>(?:\.[^.]*)?)", re.DOTALL)
COMPRESSED = re.compile(r"\.(?:gz|br|zst)$")


@consumer
async def clean_static_files(tick: CleanStaticFiles, context: JobContext) -> None:
    """What a browser may still ask for stays: the current release, and versions younger than the retention."""
    root = context.settings.files.static_root
    if root is None:
        raise Reject("POCKETWATCH_STATIC_ROOT is not set, so there is nothing that may be cleaned")
    cutoff = (context.now - timedelta(days=tick.retention_days)).timestamp()
    sweep = Sweep(root=root, older_than=cutoff, rule=partial(Superseded, older_than=cutoff), max_share=tick.max_share)
    await job.run(sweep, context, tick=tick, dry_run=tick.dry_run)


class Superseded:
    """The rule: versions that no release names which was out while the pass went on.

    Raises:
        ManifestUnusable: when the manifest cannot be read, or names nothing that is there.
        GiveUp: when it is not what it should be.
    """

    def __init__(self, root: Folder, *, older_than: float) -> None:
        self.statistics = {"named": 0}
        self._root, self._older_than = root, older_than
        self._lock = threading.Lock()  # deleting threads ask too
        current = manifest.read(root.descriptor, root.name)
        self._names, self._written_at, self._identity = current.names, current.written_at, current.identity
        if not any(_exists(root, name) for name in current.names):
            raise ManifestUnusable(
                f'the manifest "{root.name}/{manifest.NAME}" names nothing that is there; it belongs to another folder'
            )

    def look(self, folder: Folder) -> None:
        """Each file is judged by its own name."""

    def doomed(self, folder: Folder, name: str, status: os.stat_result) -> Callable[[], bool] | None:
        """Whether this is a version that may go; then the manifest is to be asked again."""
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
        """A compressed form does not go before the file itself, though it may have been made earlier."""
        try:
            return os.stat(base, dir_fd=folder.descriptor, follow_symlinks=False).st_mtime >= self._older_than
        except FileNotFoundError:
            return False

    def _are_still_unnamed(self, paths: list[str]) -> bool:
        with self._lock:
            if manifest.identity(self._root.descriptor) != self._identity:
                newer = manifest.read(self._root.descriptor, self._root.name)
                self._names, self._identity = self._names | newer.names, newer.identity
            return self._names.isdisjoint(paths)


def bases_of(name: str) -> list[str]:
    """As what a file may be a version: itself; and without the suffix that compressing it or putting it aside added."""
    whole = LEFT_ASIDE.sub("", name)
    return list(dict.fromkeys((name, whole, COMPRESSED.sub("", whole))))


def original_of(name: str) -> str | None:
    """The file of which this is a hashed version, as Django names them: the hash stands before the last extension."""
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
