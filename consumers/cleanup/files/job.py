"""Run a sweep as a job: survey, refuse to delete too much, delete, and report."""

import asyncio
import threading
from dataclasses import replace

from consumers.cleanup.files.counters import SweepCounters
from consumers.cleanup.files.sweep import Sweep
from pocketwatch.worker.context import JobContext

POLL_EVERY = 0.5  # seconds


async def run_sweep_job(sweep: Sweep, job: JobContext) -> None:
    """Sweep in threads; when the time budget is spent, start over in a continuation.

    Raises:
        RootUnusable: when the root cannot be opened.
        Reject: when too large a share would be deleted, or the clocks disagree.
    """
    job.start()
    cancelled = threading.Event()  # no thread goes on deleting for a run that is over
    sweep = replace(sweep, stop=lambda: cancelled.is_set() or job.should_stop())
    try:
        counters = await asyncio.to_thread(sweep.survey)
        if not job.dry_run:
            counters = await _delete(sweep, job, survey=counters)
    finally:
        cancelled.set()
    job.record(**counters.statistics())
    if counters.errors:
        job.mark_partial(f"{counters.errors} could not be deleted, such as {'; '.join(counters.examples)}")
    if counters.stopped:
        job.start_over(made_progress=counters.files_deleted > 0)


async def _delete(sweep: Sweep, job: JobContext, *, survey: SweepCounters) -> SweepCounters:
    if survey.stopped:
        return SweepCounters(files_seen=survey.files_seen, rule=survey.rule, stopped=True)
    sweep.check_share(survey)
    counters = SweepCounters()
    deleting = asyncio.ensure_future(asyncio.to_thread(sweep.delete, counters))
    while not (await asyncio.wait([deleting], timeout=POLL_EVERY))[0]:
        share = counters.files_seen / survey.files_seen if survey.files_seen else None
        await job.progress(share, **counters.statistics())
    return await deleting
