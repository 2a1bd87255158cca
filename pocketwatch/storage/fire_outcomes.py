"""How the fires ended: what the run log says about their messages, written to the fire ledger."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

PAGE = 500  # fires
BEGINNING = datetime.min.replace(tzinfo=UTC)

TRY_LOCK = sa.text("SELECT pg_try_advisory_xact_lock(hashtext('pocketwatch fire ledger'))")
OPEN = sa.text(
    "SELECT entry, due_at, message_id, recorded_at FROM fires WHERE state = 'published' AND outcome IS NULL "
    "AND (due_at, entry) > (:due_at, :entry) ORDER BY due_at, entry LIMIT :size"
)
# Of each message, the attempt that decides: one that was done, or else the last.
LAST_ATTEMPTS = sa.text("""
SELECT DISTINCT ON (message_id, job) message_id, job, status, error, statistics ->> 'continued_by' AS continued_by,
    coalesce(finished_at, started_at) AS at
FROM update_logs WHERE message_id = ANY(:ids) AND trigger = 'schedule'
ORDER BY message_id, job, status NOT IN ('succeeded', 'partial'), attempt DESC, id DESC
""")
UNSENT = sa.text("SELECT message_id, last_error FROM outbox WHERE sent_at IS NULL AND message_id = ANY(:ids)")
SETTLE = sa.text("""
UPDATE fires SET outcome = ended.outcome, outcome_reason = ended.reason, settled_at = now()
FROM unnest(
    CAST(:entries AS text[]), CAST(:moments AS timestamptz[]), CAST(:outcomes AS text[]), CAST(:reasons AS text[])
) AS ended (entry, due_at, outcome, reason)
WHERE (fires.entry, fires.due_at) = (ended.entry, ended.due_at) AND fires.outcome IS NULL
""")
# A dead letter that was requeued, or a message that was consumed much later: its id, or one that derives from it, has
# run since. ("/" follows "." in the order of the index.)
REOPEN = sa.text("""
UPDATE fires SET outcome = NULL, outcome_reason = NULL, settled_at = NULL
WHERE outcome IN ('failed', 'dead') AND due_at > now() - interval '30 days' AND EXISTS (
    SELECT FROM update_logs AS run
    WHERE run.message_id ~>=~ fires.message_id AND run.message_id ~<~ (fires.message_id || '/')
        AND run.trigger = 'schedule' AND run.started_at > fires.settled_at
)
""")
# No ticker decides what becomes of a held fire of an entry that was disabled or left the schedule file.
RELEASE_HELD = sa.text("""
UPDATE fires SET outcome = 'missed', outcome_reason = reason, settled_at = now()
WHERE state = 'missed' AND outcome IS NULL
    AND NOT EXISTS (SELECT FROM schedule_entries AS other WHERE other.entry = fires.entry AND other.enabled)
""")


@dataclass(frozen=True, slots=True)
class OpenFire:
    entry: str
    due_at: datetime
    message_id: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """The attempt that decides how a message ended, or has not ended yet.

    Args:
        continued_by: the id of the message that does the rest.
        at: when it ended, or started if it still runs.
    """

    message_id: str
    job: str
    status: str
    error: str | None
    continued_by: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of a fire."""

    fire: OpenFire
    outcome: str
    reason: str | None


async def try_lock(connection: AsyncConnection) -> bool:
    """Return whether no other publisher does this at the moment; until the end of the transaction, none does."""
    return bool((await connection.execute(TRY_LOCK)).scalar_one())


async def open_fires(connection: AsyncConnection, *, after: OpenFire | None) -> list[OpenFire]:
    """Return a page of the fires that were published and have not ended, oldest first."""
    due_at, entry = (BEGINNING, "") if after is None else (after.due_at, after.entry)
    rows = await connection.execute(OPEN, {"due_at": due_at, "entry": entry, "size": PAGE})
    return [OpenFire(*row) for row in rows]


async def last_attempts(connection: AsyncConnection, message_ids: Collection[str]) -> list[Attempt]:
    rows = await connection.execute(LAST_ATTEMPTS, {"ids": list(message_ids)})
    return [Attempt(*row) for row in rows]


async def unsent(connection: AsyncConnection, message_ids: Collection[str]) -> dict[str, str | None]:
    """Return which of these messages are still in the outbox, with the error of the last attempt to publish each."""
    return {row[0]: row[1] for row in await connection.execute(UNSENT, {"ids": list(message_ids)})}


async def settle(connection: AsyncConnection, settlements: Sequence[Settlement]) -> None:
    if not settlements:
        return
    columns = {
        "entries": [each.fire.entry for each in settlements],
        "moments": [each.fire.due_at for each in settlements],
        "outcomes": [each.outcome for each in settlements],
        "reasons": [each.reason for each in settlements],
    }
    await connection.execute(SETTLE, columns)


async def reopen(connection: AsyncConnection) -> int:
    """Open fires again that had failed, but whose message has been run since; return how many."""
    return int((await connection.execute(REOPEN)).rowcount)


async def release_held(connection: AsyncConnection) -> int:
    """Settle as missed what pauses held back of entries that do not fire any more; return how many."""
    return int((await connection.execute(RELEASE_HELD)).rowcount)
