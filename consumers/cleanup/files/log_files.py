"""Delete rotated logs that were not written for the retention; the newest log of each series is always kept.

A log is a file whose name has the part `.log`, followed by nothing but what a rotation adds; a rotated one has at least
one of these additions:

* a date before `.log`, at the start or after `.`, `-` or `_`: app.2026-01-01_00-00-00_123456.log, app-20260101.log
* a number or date after it: app.log.1, app.log-20260101, app.log.2026-01-01
* the suffix of a compressed file: app.log.2.gz, app.2026-01-01.log.zip

Everything else stays, however old: `app.log` itself, `worker-2.log` (a number before `.log` names a log of its own),
`app.log.lock`, `syslog.1`. Folders stay too, because what writes into them may not create them.

The logs of one folder whose names are equal without these additions are a series. The one that was written last is
kept, rotated or not.
"""

import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from consumers.cleanup.files.folder import Folder
from consumers.cleanup.files.job import root_to_clean, run_sweep_job
from consumers.cleanup.files.sweep import Sweep
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
    (?P<temporary>(?:\.\d+\.pocketwatch)+)?""",
    re.DOTALL | re.VERBOSE,
)


@consumer
async def clean_log_files(tick: CleanLogFiles, job: JobContext) -> None:
    root = await root_to_clean(job, job.settings.files.log_root, setting="POCKETWATCH_LOG_ROOT")
    if root is None:
        return
    cutoff = (job.now - timedelta(days=tick.retention_days)).timestamp()
    sweep = Sweep(root=root, older_than=cutoff, rule=lambda _: Rotated(older_than=cutoff), max_share=tick.max_share)
    await run_sweep_job(sweep, job)


@dataclass(frozen=True, slots=True)
class LogName:
    """What the name of a log says."""

    series: str
    rotated: bool


def log_of(name: str) -> LogName | None:
    """Read the name of a file; None for other files than logs."""
    match = LOG.fullmatch(name)
    if match is None:
        return None
    additions = match["dated"], match["numbered"], match["compressed"], match["temporary"]
    return LogName(f"{match['stem']}.log", rotated=any(additions))


@dataclass(frozen=True, slots=True)
class NewestLog:
    """The log of a series that was written last."""

    name: str
    inode: int
    written_at: int  # nanoseconds since the epoch

    def is_unmoved(self, folder: Folder) -> bool:
        """Whether it still has its name: no rotation has begun since the folder was entered."""
        try:
            return os.stat(self.name, dir_fd=folder.descriptor, follow_symlinks=False).st_ino == self.inode
        except FileNotFoundError:
            return False


class Rotated:
    """The rule: rotated logs other than the newest of their series."""

    def __init__(self, *, older_than: float) -> None:
        # `held_open` is a contract of the run log. Nothing counts it any more: a log that is old and has a newer one
        # in its series is no longer written to.
        self.statistics = {"newest_kept": 0, "held_open": 0}
        self._older_than = older_than
        self._newest: dict[str, NewestLog] = {}

    def enter(self, folder: Folder) -> None:
        self._newest = {}
        with os.scandir(folder.descriptor) as entries:
            for entry in entries:
                if (log := log_of(entry.name)) is not None:
                    self._compare(log.series, entry)

    def _compare(self, series: str, entry: "os.DirEntry[str]") -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return  # rotated meanwhile
        best = self._newest.get(series)
        if stat.S_ISREG(status.st_mode) and (best is None or status.st_mtime_ns > best.written_at):
            self._newest[series] = NewestLog(entry.name, status.st_ino, status.st_mtime_ns)

    def may_delete(self, folder: Folder, name: str, status: os.stat_result) -> Callable[[], bool] | None:
        log = log_of(name)
        newest = None if log is None else self._newest.get(log.series)
        if log is None or newest is None or status.st_mtime >= self._older_than:
            return None
        if status.st_mtime_ns >= newest.written_at:  # several, when they were written at the same moment
            self.statistics["newest_kept"] += 1
            return None
        return partial(newest.is_unmoved, folder) if log.rotated else None
