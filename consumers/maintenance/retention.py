"""How long rows of the suite's own tables are kept, and why: one rule per table."""

from dataclasses import dataclass
from datetime import timedelta

# Records that detect duplicates must outlive every copy of a message. Copies that the suite itself makes are gone
# within eight days: a ticker catches up seven, retry delays add up to three hours, a delivery is held for minutes. The
# rest is for operators: a queue without a consumer over a holiday, a dead letter that is requeued.
KEEP_FOR_DEDUPLICATION = timedelta(days=30)
# `trigger --wait` may still be following a run that has just ended.
KEEP_FOR_FOLLOWING = timedelta(days=1)
# The daily roll-up recounts a day's runs until the fourth day after it.
KEEP_FOR_ROLL_UP = timedelta(days=7)
# Someone who looks once a month sees what happened since. The accounting and the watchdog look back a week at most.
KEEP_FOR_REVIEW = timedelta(days=30)
# Who did what is asked later than how a run went: in an audit of the year, or when a dispute comes up.
KEEP_FOR_AUDIT = timedelta(days=365)


@dataclass(frozen=True, kw_only=True)
class RetentionRule:
    """The retention of one table.

    Args:
        table: its counter is `<table>_deleted`.
        since: the column from which a row's retention counts; rows where it is null are kept.
        condition: a further condition for deletion, as SQL.
        minimum: how long a row is kept whatever the message says.
        adjustable: whether the message's `retention_days` can keep it for longer.
        ordered_by: for tables with an ascending `id`, a column that ascends with it, so that the scan ends at the first
            page without old rows. Without it the whole table is scanned, block by block.
        why: what the rows are for, and why they may be deleted then.
    """

    table: str
    since: str
    condition: str = "true"
    minimum: timedelta
    adjustable: bool = True
    ordered_by: str | None = None
    why: str

    @property
    def statistic(self) -> str:
        return f"{self.table}_deleted"

    def keep(self, retention_days: int) -> timedelta:
        return max(self.minimum, timedelta(days=retention_days)) if self.adjustable else self.minimum


RULES = (
    RetentionRule(
        table="update_logs",
        since="finished_at",
        condition="status <> 'running'",
        minimum=KEEP_FOR_ROLL_UP,
        ordered_by="started_at",
        why="operators read the history of runs, and the roll-up counts it by day; active ones are kept",
    ),
    RetentionRule(
        table="currency_update_logs",
        since="created_at",
        condition=(
            "EXISTS (SELECT FROM currency_update_logs AS newer WHERE newer.source = currency_update_logs.source "
            "AND newer.status = currency_update_logs.status AND newer.id > currency_update_logs.id)"
        ),
        minimum=KEEP_FOR_FOLLOWING,
        ordered_by="created_at",
        why="operators read it; the newest row of each source and status is kept, however old",
    ),
    RetentionRule(
        table="moderation_notification_logs",
        since="sent_at",
        condition="key IS NOT NULL AND status NOT IN ('pending', 'sending')",
        minimum=KEEP_FOR_DEDUPLICATION,
        ordered_by="sent_at",
        why="keeps an email from being sent twice; unsent ones are kept",
    ),
    RetentionRule(
        table="inbox",
        since="handled_at",
        minimum=KEEP_FOR_DEDUPLICATION,
        adjustable=False,
        why="detects duplicate messages; it grows by a row with every message",
    ),
    RetentionRule(
        table="outbox",
        since="sent_at",
        condition="sent_at IS NOT NULL",
        minimum=KEEP_FOR_DEDUPLICATION,
        adjustable=False,
        ordered_by="created_at",
        why="shows which messages were published, and when; unsent ones are kept, however old",
    ),
    RetentionRule(
        table="fires",
        since="due_at",
        condition=(
            "EXISTS (SELECT FROM fires AS newer WHERE newer.entry = fires.entry AND newer.due_at > fires.due_at "
            "AND newer.due_at <= now())"
        ),
        minimum=KEEP_FOR_DEDUPLICATION,
        why="keeps an entry from firing twice; tickers start from the newest past one of each, which is kept",
    ),
    RetentionRule(
        table="fire_accounts",
        since="hour",
        minimum=KEEP_FOR_REVIEW,
        why="shows that no planned fire is missing; it grows by a row with every hour",
    ),
    RetentionRule(
        table="incidents",
        since="recovered_at",
        condition="recovered_at IS NOT NULL",
        minimum=KEEP_FOR_REVIEW,
        ordered_by="opened_at",
        why="operators compare a problem with earlier ones; an open one is kept, however old",
    ),
    RetentionRule(
        table="operator_actions",
        since="done_at",
        minimum=KEEP_FOR_AUDIT,
        ordered_by="done_at",
        why="the audit trail: who has changed what, and why",
    ),
)
