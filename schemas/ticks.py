"""Timed events: each asks for one job, named by its routing key. Every field has a default, so `{}` is enough."""

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.locale import Locale
from schemas.message import Tick

RetentionDays = Annotated[int, Field(ge=0, le=3650)]
MaxShare = Annotated[float, Field(gt=0, le=1, strict=False)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


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
    max_share: MaxShare = 0.95


class CleanStaticFiles(Tick):
    """Hashed files below the static root may go that the manifest no longer names, `retention_days` after their mtime.

    A run that would delete more than `max_share` (0..1) of more than a thousand files stops before the first one.
    """

    routing_key: ClassVar[str] = "cleanup.static_files"

    retention_days: RetentionDays = 30
    dry_run: bool = False
    max_share: MaxShare = 0.95


class CleanLogFiles(Tick):
    """Rotated logs below the log root may go, `retention_days` days after they were last written.

    A run that would delete more than `max_share` (0..1) of more than a thousand files stops before the first one.
    """

    routing_key: ClassVar[str] = "cleanup.log_files"

    retention_days: RetentionDays = 30
    dry_run: bool = False
    max_share: MaxShare = 0.95


class CleanSessions(Tick):
    """Session keys in Redis may go that expired, by what their value says, more than `retention_days` days ago."""

    routing_key: ClassVar[str] = "cleanup.sessions"

    retention_days: RetentionDays = 30
    dry_run: bool = False


class UpdateRates(Tick):
    """The rates of these currencies (null: those of the settings) are to be fetched from this bank and stored.

    `accept_moves` lets through what moved by more than a fifth, and is held back otherwise.
    """

    routing_key: ClassVar[str] = "rates.update"

    source: Literal["NBU", "PRIVATBANK"] = "NBU"
    currencies: Annotated[list[Currency], Field(min_length=1, max_length=100)] | None = None
    accept_moves: bool = False


class CleanRates(Tick):
    """Rates and lines of their update log may go after `retention_days` days; the newest of each kind stays."""

    routing_key: ClassVar[str] = "rates.cleanup"

    retention_days: RetentionDays = 30
    dry_run: bool = False


class PurgeLogs(Tick):
    """Rows of the suite's own tables may go when nobody needs them any more: the run log's after `retention_days`.

    `from_table` and `after` are where a run goes on that an earlier one had no time to finish.
    """

    routing_key: ClassVar[str] = "maintenance.purge_logs"

    retention_days: RetentionDays = 90
    dry_run: bool = False
    from_table: str | None = None
    after: Annotated[int, Field(ge=0)] = 0


class ArchiveAds(Tick):
    """Ads that are sold or rejected, or active without a change for `inactive_days` days, become archived.

    `max_archived` bounds what one run may change, in ads; the rest stays for the next run.
    `after_id` is where a run goes on that an earlier one had no time to finish.
    """

    routing_key: ClassVar[str] = "maintenance.archive_ads"

    inactive_days: Annotated[int, Field(ge=1, le=3650)] = 180
    dry_run: bool = False
    max_archived: Annotated[int, Field(ge=1)] = 10_000
    after_id: Annotated[int, Field(ge=0)] = 0


class QuickStats(Tick):
    """The figures of the front page are to be counted."""

    routing_key: ClassVar[str] = "analytics.quick_stats"


class PlatformAnalytics(Tick):
    """The overview of the whole marketplace is to be made, for readers of these languages."""

    routing_key: ClassVar[str] = "analytics.platform"

    locales: Annotated[tuple[Locale, ...], Field(min_length=1, max_length=3)] = ("uk", "en", "ru")


class DailyReport(Tick):
    """The report of one day of the business time zone is to be made and mailed.

    `day` is the day that is meant; null: the last one that was over at the due time.
    """

    routing_key: ClassVar[str] = "analytics.daily_report"

    day: date | None = None


class CleanAnalytics(Tick):
    """Expired snapshots and cache keys may go; what is current stays."""

    routing_key: ClassVar[str] = "analytics.cleanup"

    dry_run: bool = False


class Vacuum(Tick):
    """Tables that the suite churns (null: those that need it) are to be vacuumed and analysed."""

    routing_key: ClassVar[str] = "maintenance.vacuum"

    tables: Annotated[list[str], Field(min_length=1, max_length=100)] | None = None
