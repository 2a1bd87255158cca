"""Rotated logs: every day, those that were not written for the retention go; the newest of each series stays.

A log is a file whose name has the part `.log`, followed by nothing but what a rotation adds; a rotated one has at least
one of these additions:

* a date before `.log`, at the start or after `.`, `-` or `_`: app.2026-01-01_00-00-00_123456.log, app-20260101.log
* a number or date after it: app.log.1, app.log-20260101, app.log.2026-01-01
* the suffix of a compressed file: app.log.2.gz, app.2026-01-01.log.zip

Everything else stays, however old: `app.log` itself, `worker-2.log` (a number before `.log` tells logs apart that are
written side by side), `app.log.lock`, `syslog.1`. Folders stay too, for those who write into them may not make them.

The logs of one folder whose names are equal without these additions are a series; the one of them that was written last
stays, rotated or not. So does a file that a process holds open. Whether one does cannot always be known: /proc tells us
about our own processes, and about others' only if we are root; the kernel, about our own files. Where neither can tell,
a file stays unless it is compressed, for nobody goes on writing to that.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from consumers.cleanup.files import job
from consumers.cleanup.files.open_files import OpenFiles
from consumers.cleanup.files.sweep import Folder, Sweep
from pocketwatch.errors import Reject
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanLogFiles

DAY = r"(?:0[1-9]|[12]\d|3[01])"
MONTH = r"(?:0[1-9]|1[0-2])"
DATE = rf"(?:19|20)\d\d(?:-{MONTH}-{DAY}|\.{MONTH}\.{DAY}|_{MONTH}_{DAY}|{MONTH}{DAY})"
MORE = r"[-._:,T\d]*Z?"  # a time, a counter, a fraction of a second
LOG = re.compile(
    rf"""(?P<stem>.*?)
    (?P<dated>(?:^|[-._]){DATE}{MORE})?
    \.log
    (?P<numbered>[-._]\d{MORE})?
    (?P<compressed>\.(?:tar|(?:tar\.)?(?:gz|bz2|xz|zst|lz4|lzma|lz|br|Z|zip)|tgz))?
    (?P<aside>(?:\.\d+\.pocketwatch)+)?""",
    re.DOTALL | re.VERBOSE,
)


@consumer
async def clean_log_files(tick: CleanLogFiles, context: JobContext) -> None:
    """Logs are read after something went wrong: what was written last is kept, whatever its age."""
    root = context.settings.files.log_root
    if root is None:
        raise Reject("POCKETWATCH_LOG_ROOT is not set, so there is nothing that may be cleaned")
    cutoff = (context.now - timedelta(days=tick.retention_days)).timestamp()
    sweep = Sweep(root=root, older_than=cutoff, rule=lambda _: Rotated(older_than=cutoff), max_share=tick.max_share)
    await job.run(sweep, context, tick=tick, dry_run=tick.dry_run)


@dataclass(frozen=True, slots=True)
class Log:
    """What the name of a log says."""

    series: str
    rotated: bool
    compressed: bool


def log_of(name: str) -> Log | None:
    """Read the name of a file; None when it is no log's."""
    match = LOG.fullmatch(name)
    if match is None:
        return None
    marks = match["dated"], match["numbered"], match["compressed"], match["aside"]
    return Log(f"{match['stem']}.log", rotated=any(marks), compressed=match["compressed"] is not None)


@dataclass(frozen=True, slots=True)
class Newest:
    """The log of a series that was written last."""

    name: str
    inode: int
    written_at: int  # nanoseconds since the epoch

    def is_there(self, folder: Folder) -> bool:
        """It still has its name: no rotation has begun since the folder was looked at."""
        try:
            return os.stat(self.name, dir_fd=folder.descriptor, follow_symlinks=False).st_ino == self.inode
        except FileNotFoundError:
            return False


class Rotated:
    """The rule: rotated logs that are neither the newest of their series nor held open."""

    def __init__(self, *, older_than: float) -> None:
        self.statistics = {"newest_kept": 0, "held_open": 0}
        self._older_than = older_than
        self._open = OpenFiles()
        self._newest: dict[str, Newest] = {}

    def look(self, folder: Folder) -> None:
        """Find the newest of each series in this folder."""
        self._newest = {}
        with os.scandir(folder.descriptor) as entries:
            for entry in entries:
                if (log := log_of(entry.name)) is not None:
                    self._compare(log.series, entry)

    def _compare(self, series: str, entry: "os.DirEntry[str]") -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return  # rotated away meanwhile
        best = self._newest.get(series)
        if stat.S_ISREG(status.st_mode) and (best is None or status.st_mtime_ns > best.written_at):
            self._newest[series] = Newest(entry.name, status.st_ino, status.st_mtime_ns)

    def doomed(self, folder: Folder, name: str, status: os.stat_result) -> Callable[[], bool] | None:
        """Whether this is a rotated log that may go; then the newest of its series must still be in its place."""
        log = log_of(name)
        newest = None if log is None else self._newest.get(log.series)
        if log is None or newest is None or status.st_mtime >= self._older_than:
            return None
        if status.st_mtime_ns >= newest.written_at:  # several, when they were written at the same moment
            self.statistics["newest_kept"] += 1
            return None
        if not log.rotated:
            return None
        held = self._open.is_held(folder.descriptor, name, status)
        if held or (held is None and not log.compressed):
            self.statistics["held_open"] += 1
            return None
        return partial(newest.is_there, folder)
