"""The delivery log: one row per email, whose state is also its claim.

    pending ─► sending ─► sent | failed | unknown
       │          └─────► pending: later
       └─► suppressed | expired, or held for a digest

The process that sets `sending`, and keeps renewing the lease, sends the email. Each step is one statement for all
emails that take it at the same time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.mail import queries, suppressions
from consumers.mail.decisions import (
    DIGEST_KINDS,
    Claim,
    DeliveryDecision,
    DeliveryPolicy,
    LogRow,
    RecentVolume,
    unconfirmed_attempts,
)
from pocketwatch.settings import Settings

State = Literal["sent", "failed", "pending", "unknown"]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an attempt.

    Args:
        is_unconfirmed: the email may have been sent.
        counts: as an attempt; otherwise the attempts before do not count either.
        bad_address: to suppress; None where the address is good.
    """

    key: str
    state: State
    reply: str
    error: str = ""
    is_unconfirmed: bool = False
    counts: bool = True
    bad_address: str | None = None
    is_digest: bool = False


class DeliveryLog:
    def __init__(self, settings: Settings) -> None:
        self._policy = DeliveryPolicy(ZoneInfo(settings.site.timezone), settings.mail.digest_above)
        self._window = settings.mail.digest_window

    async def claim(self, connection: AsyncConnection, claims: Sequence[Claim]) -> list[DeliveryDecision]:
        """Decide about each email, and mark those to send as `sending`."""
        unique = {claim.key: claim for claim in claims}
        rows = await queries.lock_rows(connection, list(unique.values()))
        recipients = {claim.recipient for claim in claims if claim.may_be_held}
        volumes = await queries.recent_volume(connection, recipients, kinds=DIGEST_KINDS, window=self._window)
        updates: dict[str, tuple[LogRow, str, str, str | None]] = {}
        decisions = []
        for claim in claims:
            row = rows[claim.key]
            volume = volumes.setdefault(claim.recipient, RecentVolume()) if claim.may_be_held else None
            decision = self._policy.decide(claim, row, volume)
            if decision.action in {"send", "hold"} or decision.state != row.state:
                _apply(decision, row, volume)
                updates[claim.key] = row, decision.reason, claim.external_id, claim.request if row.is_held else None
            decisions.append(decision)
        await queries.update_rows(connection, list(updates.values()))
        await queries.copy_digest_results(connection, [key for key in updates if unique[key].is_digest])
        return decisions

    async def record_result(self, connection: AsyncConnection, results: Sequence[Result]) -> list[int]:
        """Write results; return the number of unconfirmed attempts of each email."""
        ordered = sorted(results, key=lambda each: each.key)
        values = {
            each.key: (each.state, each.reply, each.error, int(each.is_unconfirmed), each.counts) for each in ordered
        }
        unconfirmed = await queries.record_results(connection, values)
        await queries.copy_digest_results(connection, [each.key for each in results if each.is_digest])
        bad = {each.bad_address: each.reply for each in results if each.bad_address is not None}
        await suppressions.add(connection, bad, scope="all")
        return [unconfirmed.get(each.key, 0) for each in results]


def _apply(decision: DeliveryDecision, row: LogRow, volume: RecentVolume | None) -> None:
    """Update the row and the volume for the next claim in this batch."""
    row.unconfirmed, row.state = unconfirmed_attempts(row), decision.state
    row.attempts, row.updated_at = row.attempts + (decision.action == "send"), row.now
    row.is_held = decision.action == "hold"
    if volume is not None:
        volume.sent += decision.action == "send"
        volume.is_holding = volume.is_holding or row.is_held
