"""Delete media below the media root that were not modified for the retention and that no row names."""

from datetime import timedelta

from consumers.cleanup.files.job import run_sweep_job
from consumers.cleanup.files.references import References
from consumers.cleanup.files.sweep import Sweep
from pocketwatch.errors import Reject
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanMedia


@consumer
async def clean_media(tick: CleanMedia, job: JobContext) -> None:
    if (root := job.settings.files.media_root) is None:
        raise Reject("POCKETWATCH_MEDIA_ROOT: not set; set it to the folder to clean")
    cutoff = (job.now - timedelta(days=tick.retention_days)).timestamp()
    references = await References.of(job)
    sweep = Sweep(root=root, older_than=cutoff, in_use=references.among, max_share=tick.max_share)
    await run_sweep_job(sweep, job)
