"""Ticks: each asks for the job that its routing key names. Every field has a default, so `{}` is a valid body."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.locale import Locale
from schemas.message import Tick
from schemas.types import LARGEST_INT, Day, Name

RetentionDays = Annotated[int, Field(ge=0, le=3650, description="days to keep expired data")]
DryRun = Annotated[bool, Field(description="count, and change nothing")]
MaxShare = Annotated[float, Field(gt=0, le=1, strict=False, description="share that one run may delete")]
Limit = Annotated[int, Field(ge=1, le=LARGEST_INT, description="the most rows that one run may change")]
Position = Annotated[int, Field(ge=0, le=LARGEST_INT, description="where a continuation starts")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class CleanTokens(Tick):
    """Delete JWT refresh tokens that expired more than `retention_days` days ago, by the `exp` in their payload.

    `max_deleted` limits the tokens that one run deletes. A run whose time budget ends is continued after `after_id`.
    """

    routing_key: ClassVar[str] = "cleanup.tokens"

    retention_days: RetentionDays = 30
    dry_run: DryRun = False
    max_deleted: Limit | None = None
    after_id: Position = 0


class CleanMedia(Tick):
    """Delete files below the media root that were last modified more than `retention_days` days ago.

    When there are more than 1,000 files, a run that would delete more than `max_share` (0..1) of them deletes none.
    """

    routing_key: ClassVar[str] = "cleanup.media"

    retention_days: RetentionDays = 7
    dry_run: DryRun = False
    max_share: MaxShare = 0.95


class CleanStaticFiles(Tick):
    """Delete hashed static files that the manifest does not name and whose mtime is over `retention_days` days ago.

    When there are more than 1,000 files, a run that would delete more than `max_share` (0..1) of them deletes none.
    """

    routing_key: ClassVar[str] = "cleanup.static_files"

    retention_days: RetentionDays = 30
    dry_run: DryRun = False
    max_share: MaxShare = 0.95


class CleanLogFiles(Tick):
    """Delete rotated logs below the log root that were last written more than `retention_days` days ago.

    When there are more than 1,000 files, a run that would delete more than `max_share` (0..1) of them deletes none.
    """

    routing_key: ClassVar[str] = "cleanup.log_files"

    retention_days: RetentionDays = 30
    dry_run: DryRun = False
    max_share: MaxShare = 0.95


class CleanSessions(Tick):
    """Delete session keys in Redis that expired, by their value, more than `retention_days` days ago."""

    routing_key: ClassVar[str] = "cleanup.sessions"

    retention_days: RetentionDays = 30
    dry_run: DryRun = False


class UpdateRates(Tick):
    """Fetch and store the rates of these currencies (null: those of the settings) from this bank.

    A rate that has moved by more than a fifth is stored only with `accept_moves`.
    """

    routing_key: ClassVar[str] = "rates.update"

    source: Annotated[Literal["NBU", "PRIVATBANK"], Field(description="the bank to query")] = "NBU"
    currencies: Annotated[
        Annotated[list[Currency], Field(min_length=1, max_length=100, fail_fast=True)] | None,
        Field(description="the currencies to update; null for those of the settings"),
    ] = None
    accept_moves: Annotated[bool, Field(description="store rates that moved by more than a fifth")] = False
    instead_of: Annotated[
        Literal["EXCHANGERATE_API"] | None, Field(description="the service that was asked for, for the logs")
    ] = None


class CleanRates(Tick):
    """Delete rates and rows of their update log after `retention_days` days; the newest of each kind stays."""

    routing_key: ClassVar[str] = "rates.cleanup"

    retention_days: RetentionDays = 30
    dry_run: DryRun = False


class PurgeLogs(Tick):
    """Delete rows of the suite's tables that are not needed any more: those of the run log after `retention_days` days.

    A run whose time budget ends is continued in `from_table`, after the id `after`.
    """

    routing_key: ClassVar[str] = "maintenance.purge_logs"

    retention_days: RetentionDays = 90
    dry_run: DryRun = False
    from_table: Annotated[Name | None, Field(description="where a continuation starts")] = None
    after: Position = 0


class ArchiveAds(Tick):
    """Archive ads that are sold or rejected, or active without a change for `inactive_days` days.

    `max_archived` limits the ads that one run archives. A run whose time budget ends is continued after `after_id`.
    """

    routing_key: ClassVar[str] = "maintenance.archive_ads"

    inactive_days: Annotated[int, Field(ge=1, le=3650, description="days unchanged until an active ad is archived")] = (
        180
    )
    dry_run: DryRun = False
    max_archived: Limit = 10_000
    after_id: Position = 0


class QuickStats(Tick):
    """Count the figures of the front page."""

    routing_key: ClassVar[str] = "analytics.quick_stats"


class PlatformAnalytics(Tick):
    """Make the overview of the marketplace in these languages."""

    routing_key: ClassVar[str] = "analytics.platform"

    locales: Annotated[
        tuple[Locale, ...], Field(min_length=1, max_length=3, fail_fast=True, description="the languages of the result")
    ] = ("uk", "en", "ru")


class DailyReport(Tick):
    """Make and email the report of one day of the business time zone.

    `day` is null for the last day that had ended at the due time.
    """

    routing_key: ClassVar[str] = "analytics.daily_report"

    day: Annotated[Day | None, Field(description="the day of the report; null for the last closed one")] = None


class CleanAnalytics(Tick):
    """Delete expired snapshots and cache keys."""

    routing_key: ClassVar[str] = "analytics.cleanup"

    dry_run: DryRun = False


class Vacuum(Tick):
    """Vacuum and analyse these tables (null: those that need it)."""

    routing_key: ClassVar[str] = "maintenance.vacuum"

    tables: Annotated[
        Annotated[list[Name], Field(min_length=1, max_length=100, fail_fast=True)] | None,
        Field(description="the tables to vacuum; null for those that need it"),
    ] = None
