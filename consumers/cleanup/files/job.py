"""A sweep as a job: surveyed first, stopped before it destroys too much, followed, and told in the log row."""

import asyncio
import threading
from dataclasses import replace

from consumers.cleanup.files.sweep import Figures, Sweep
from pocketwatch.worker.clock_skew import check_clock_skew
from pocketwatch.worker.context import JobContext
from schemas.message import Message

LOOK_EVERY = 0.5  # seconds


async def run(sweep: Sweep, job: JobContext, *, tick: Message, dry_run: bool) -> None:
    """Do it, in threads; what the time did not suffice for is handed on as the same message again.

    Raises:
        RootUnusable: when the root is missing.
        GiveUp: when it would destroy more than it may, or the clocks disagree.
    """
    check_clock_skew(job)
    given_up = threading.Event()  # our own end, so that no thread goes on deleting for a run that is over
    sweep = replace(sweep, stop=lambda: given_up.is_set() or job.should_stop())
    try:
        figures = await asyncio.to_thread(sweep.survey)
        if not dry_run and figures.stopped:
            figures = Figures(files_seen=figures.files_seen, more=figures.more, stopped=True)
        elif not dry_run:
            sweep.check_share(figures)
            figures = await _delete(sweep, job, total=figures.files_seen)
    finally:
        given_up.set()
    job.record(**figures.statistics())
    if figures.errors:
        job.mark_partial(f"{figures.errors} could not be deleted, such as {'; '.join(figures.examples)}")
    if figures.stopped and (job.is_shutting_down() or (figures.files_deleted and not dry_run)):
        job.continue_with(tick)
    elif figures.stopped:  # another run would get no further
        budget = job.settings.running.time_budget
        job.mark_partial(
            f"its time ran out before everything was seen; give it more (POCKETWATCH_TIME_BUDGET is {budget})"
        )


async def _delete(sweep: Sweep, job: JobContext, *, total: int) -> Figures:
    figures = Figures()
    deleting = asyncio.ensure_future(asyncio.to_thread(sweep.delete, figures))
    while not (await asyncio.wait([deleting], timeout=LOOK_EVERY))[0]:
        await job.progress(figures.files_seen / total if total else None, **figures.statistics())
    return await deleting
