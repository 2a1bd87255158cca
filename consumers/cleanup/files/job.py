"""Run a sweep as a job: survey, refuse to delete too much, delete, and report."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

from consumers.cleanup.files.counters import SweepCounters
from consumers.cleanup.files.folder import readable
from consumers.cleanup.files.sweep import Sweep
from pocketwatch.worker.context import JobContext

POLL_EVERY = 0.5  # seconds


async def root_to_clean(job: JobContext, root: Path | None, *, setting: str) -> Path | None:
    """Return the root, or mark the run as skipped: the root is not set, or there is nothing at its path.

    What is there but cannot be cleaned, such as a file or a link, is left to the sweep, which fails.
    """
    if root is None:
        job.mark_skipped(f"{setting}: not set; set it to the folder to clean")
        return None
    try:
        await asyncio.to_thread(root.lstat)
    except FileNotFoundError:
        where = f'root "{readable(str(root))}": not there'
        job.mark_skipped(f"{where}; mount its disk where this consumer runs, or set {setting} to the folder to clean")
        return None
    except OSError:
        pass  # the sweep names what is wrong
    return root


async def run_sweep_job(sweep: Sweep, job: JobContext) -> None:
    """Sweep in threads; when the time budget is spent, start over in a continuation.

    Raises:
        RootUnusable: when the root cannot be opened, or is moved or replaced during the run.
        Reject: when too large a share would be deleted, or the clocks disagree.
    """
    job.start()
    cancelled = threading.Event()  # no thread goes on deleting for a run that is over
    others = [job.settings.files.media_root, job.settings.files.static_root, job.settings.files.log_root]
    others.remove(sweep.root)  # once: another job may have the same
    sweep = replace(sweep, others=tuple(others), stop=lambda: cancelled.is_set() or job.should_stop())
    try:
        counters = await _run(sweep, job)
    finally:
        cancelled.set()
    job.record(**counters.statistics())
    if reasons := _reasons(counters):
        job.mark_partial("; ".join(reasons))
    if counters.stopped and not counters.limit_reached:
        job.start_over(made_progress=counters.files_deleted > 0)


async def _run(sweep: Sweep, job: JobContext) -> SweepCounters:
    counters = SweepCounters()
    running = asyncio.ensure_future(asyncio.to_thread(sweep.survey if job.dry_run else sweep.delete, counters))
    while not (await asyncio.wait([running], timeout=POLL_EVERY))[0]:
        if counters.expected is not None:  # the survey is over
            share = counters.files_seen / counters.expected if counters.expected else None
            await job.progress(share, **counters.statistics())
    return await running


def _reasons(counters: SweepCounters) -> list[str]:
    reasons = []
    if counters.errors:
        reasons.append(f"{counters.errors} could not be deleted, such as {'; '.join(counters.examples)}")
    if counters.limit_reached:
        reasons.append(
            f"{counters.limit} files: all that may be deleted of the {counters.expected} that the survey found, but "
            "more old ones have come since; the next run surveys again"
        )
    return reasons
