"""What may go from the suite's own tables, when, and why not sooner: one rule a table, here and nowhere else."""

from dataclasses import dataclass
from datetime import timedelta

# What tells a message that was handled from one that was not must outlive every copy of it. Copies that the suite
# itself makes are gone within eight days: a ticker that was away looks back seven, the waits between attempts are three
# hours together, a delivery is held for minutes. The rest is for people: a queue that nobody consumed over a holiday,
# a dead letter that is sent back.
KEEP_FOR_DEDUPLICATION = timedelta(days=30)
# Somebody may be following a run (`trigger --wait`) that has just ended.
KEEP_FOR_FOLLOWING = timedelta(days=1)
# The analytics count the runs of a day once more while it may still change, which is until the fourth day after it.
KEEP_FOR_ROLL_UP = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What may go from one table.

    Args:
        table: its name, which is also that of its figure: `<table>_deleted`.
        since: the column that says from when on a row's retention counts; a row where it is null stays.
        may_go: what else must be true of a row, as SQL.
        least: how long a row is kept whatever the message says.
        asked: whether the message's `retention_days` can keep it for longer.
        written: where rows have an `id` that grows, the column that grows with it, so that the walk through the table
            ends at the first page that is too young. Without it the whole table is walked through, block by block.
        why: what the rows are for, and why they may go then.
    """

    table: str
    since: str
    may_go: str = "true"
    least: timedelta
    asked: bool = True
    written: str | None = None
    why: str

    @property
    def statistic(self) -> str:
        """The name of its figure in the run log."""
        return f"{self.table}_deleted"

    def keep(self, retention_days: int) -> timedelta:
        """How long its rows are kept when the message asks for so many days."""
        return max(self.least, timedelta(days=retention_days)) if self.asked else self.least


RULES = (
    Rule(
        table="update_logs",
        since="finished_at",
        may_go="status <> 'running'",
        least=KEEP_FOR_ROLL_UP,
        written="started_at",
        why="the history of runs is read by people, and rolled up by day; a run that goes on has no end yet",
    ),
    Rule(
        table="currency_update_logs",
        since="created_at",
        may_go=(
            "EXISTS (SELECT FROM currency_update_logs AS newer WHERE newer.source = currency_update_logs.source "
            "AND newer.status = currency_update_logs.status AND newer.id > currency_update_logs.id)"
        ),
        least=KEEP_FOR_FOLLOWING,
        written="created_at",
        why="read by people; the newest of each source and status says since when it has been so",
    ),
    Rule(
        table="moderation_notification_logs",
        since="sent_at",
        may_go="status NOT IN ('pending', 'sending')",
        least=KEEP_FOR_DEDUPLICATION,
        written="sent_at",
        why="says which letter has been sent to whom, so that none is sent twice; what is not sent yet stays",
    ),
    Rule(
        table="inbox",
        since="handled_at",
        least=KEEP_FOR_DEDUPLICATION,
        asked=False,
        why="recognises a repeated message; nobody reads it, and it grows by a row with every message",
    ),
    Rule(
        table="outbox",
        since="sent_at",
        may_go="sent_at IS NOT NULL",
        least=KEEP_FOR_DEDUPLICATION,
        asked=False,
        written="created_at",
        why="keeps a repeated attempt from asking for a message again; what is not sent yet stays, however old",
    ),
    Rule(
        table="fires",
        since="due_at",
        may_go="EXISTS (SELECT FROM fires AS newer WHERE newer.entry = fires.entry AND newer.due_at > fires.due_at)",
        least=KEEP_FOR_DEDUPLICATION,
        why="keeps a moment from firing twice; a ticker begins from the newest record of each entry",
    ),
)
