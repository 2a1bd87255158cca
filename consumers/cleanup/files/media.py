"""Generated media: once a week, files below the media root that were not modified for the retention go."""

from datetime import timedelta

from consumers.cleanup.files import job
from consumers.cleanup.files.sweep import Sweep
from pocketwatch.errors import Reject
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanMedia


@consumer
async def clean_media(tick: CleanMedia, context: JobContext) -> None:
    """What was generated can be generated again; only its age decides."""
    root = context.settings.files.media_root
    if root is None:
        raise Reject("POCKETWATCH_MEDIA_ROOT is not set, so there is nothing that may be cleaned")
    cutoff = context.now - timedelta(days=tick.retention_days)
    sweep = Sweep(root=root, older_than=cutoff.timestamp(), max_share=tick.max_share)
    await job.run(sweep, context, tick=tick, dry_run=tick.dry_run)
