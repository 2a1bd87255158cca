"""Timed events: each asks for one job, named by its routing key. Every field has a default, so `{}` is enough."""

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.message import Tick

RetentionDays = Annotated[int, Field(ge=0, le=3650)]


class CleanTokens(Tick):
    """Expired JWT refresh tokens may go, `retention_days` days after the `exp` in their payload.

    `max_deleted` bounds what one run may destroy, in tokens; the rest stays for the next run.
    `after_id` is where a run goes on that an earlier one had no time to finish.
    """

    routing_key: ClassVar[str] = "cleanup.tokens"

    retention_days: RetentionDays = 30
    dry_run: bool = False
    max_deleted: Annotated[int, Field(ge=1)] | None = None
    after_id: Annotated[int, Field(ge=0)] = 0


class CleanMedia(Tick):
    """Files below the media root may go when they were last modified more than `retention_days` days ago.

    A run that would delete more than `max_share` (0..1) of more than a thousand files stops before the first one.
    """

    routing_key: ClassVar[str] = "cleanup.media"

    retention_days: RetentionDays = 7
    dry_run: bool = False
    max_share: Annotated[float, Field(gt=0, le=1, strict=False)] = 0.95
