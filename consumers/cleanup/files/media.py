"""Delete media below the media root that were not modified for the retention and that no row names."""

from datetime import timedelta

from consumers.cleanup.files.job import root_to_clean, run_sweep_job
from consumers.cleanup.files.references import References
from consumers.cleanup.files.sweep import Sweep
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanMedia


@consumer
async def clean_media(tick: CleanMedia, job: JobContext) -> None:
    root = await root_to_clean(job, job.settings.files.media_root, setting="POCKETWATCH_MEDIA_ROOT")
    if root is None:
        return
    cutoff = (job.now - timedelta(days=tick.retention_days)).timestamp()
    references = await References.of(job)
    sweep = Sweep(root=root, older_than=cutoff, in_use=references.among, max_share=tick.max_share)
    await run_sweep_job(sweep, job)
