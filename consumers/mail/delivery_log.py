"""The states of letters in the log, each step for all letters that take it together.

    pending ─► sending ─► sent | failed | unknown
       │          └─────► pending: later
       └─► suppressed | expired, or held for a digest

The row of a letter is its claim: who says `sending`, and goes on saying so, sends it, and nobody else. A sender that
has died, or lost its connection after the final dot, leaves a doubt: the letter may have arrived. It is sent once more
under the same Message-ID; after a second doubt it stays `unknown`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.mail import queries
from consumers.mail.queries import Crowd, Row
from consumers.mail.quiet_hours import quiet_until, zone_of
from pocketwatch.settings import Settings
from schemas.emails import LETTERS, Noticed

Act = Literal["send", "hold", "wait", "stop"]
Outcome = Literal["sent", "failed", "pending", "unknown"]

LEASE = timedelta(minutes=1)  # after so long without a sign of life a sender is dead
TRIED_FOR = timedelta(days=3)  # then a letter that the server keeps putting off has failed
DOUBTS = 2  # attempts that may have sent a letter, at most
LOOK_AGAIN = timedelta(minutes=30)  # at most, while a reader's quiet hours last: the broker's waits are few
# Of these many become one; what is critical, and a digest itself, never waits.
DIGESTED = tuple(name for name in get_args(Noticed) if not LETTERS[name].critical)


@dataclass(frozen=True, slots=True)
class Claim:
    """A letter that somebody wants to send now.

    Args:
        expires_at: when it is not worth sending any more; None: `keeps_for` after it was asked for.
        held: the letter itself, as JSON, where it may go into a digest; else None.
    """

    key: str
    recipient: str
    letter: str
    locale: str
    external_id: str
    expires_at: datetime | None
    keeps_for: timedelta
    user_id: int | None = None
    notification_id: int | None = None
    subscribed: bool = False
    critical: bool = False
    is_digest: bool = False
    held: str | None = None

    def columns(self) -> dict[str, str | int | None]:
        """What its row holds."""
        names = ("key", "recipient", "letter", "locale", "user_id", "notification_id")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done with a letter, and the status of its row from now on.

    Args:
        reason: why it is not sent.
        after: when to ask again, if it is to wait.
        log_id: its row.
        attempt: counted from 1, of those that reached the server or tried to.
    """

    act: Act
    status: str
    reason: str = ""
    after: timedelta = timedelta(0)
    log_id: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a letter that was to be sent.

    Args:
        is_doubt: it may have been sent, or not.
        bad_address: to which no letter should go any more; None where the address is good.
    """

    key: str
    status: Outcome
    reply: str
    error: str = ""
    is_doubt: bool = False
    bad_address: str | None = None
    is_digest: bool = False


class Ledger:
    """Decides about letters, and keeps their states."""

    def __init__(self, settings: Settings) -> None:
        self._zone = ZoneInfo(settings.site.timezone)
        self._above, self._window = settings.mail.digest_above, settings.mail.digest_window

    async def take(self, connection: AsyncConnection, claims: Sequence[Claim]) -> list[Verdict]:
        """Decide about each of these, and mark those that are to be sent as being sent."""
        unique = {claim.key: claim for claim in claims}
        rows = await queries.lock(connection, [claim.columns() for claim in unique.values()])
        readers = {claim.recipient for claim in claims if claim.held is not None}
        crowds = await queries.crowds(connection, readers, letters=DIGESTED, window=self._window)
        marks: dict[str, tuple[Row, str, str, str | None]] = {}
        verdicts = []
        for claim in claims:
            row = rows[claim.key]
            crowd = crowds.setdefault(claim.recipient, Crowd()) if claim.held is not None else None
            verdict = self.decide(claim, row, crowd)
            if verdict.act in {"send", "hold"} or verdict.status != row.status:
                _note(row, verdict, crowd)
                marks[claim.key] = row, verdict.reason, claim.external_id, claim.held if row.is_held else None
            verdicts.append(verdict)
        await queries.mark(connection, list(marks.values()))
        await queries.follow(connection, [key for key in marks if unique[key].is_digest])
        return verdicts

    async def settle(self, connection: AsyncConnection, settled: Sequence[Settled]) -> list[int]:
        """Write what became of these; returns for each how many attempts may have sent it without anybody knowing."""
        ordered = sorted(settled, key=lambda each: each.key)
        fates = {each.key: (each.status, each.reply, each.error, int(each.is_doubt)) for each in ordered}
        doubts = await queries.settle(connection, fates)
        await queries.follow(connection, [each.key for each in settled if each.is_digest])
        bad = {each.bad_address: each.reply for each in settled if each.bad_address is not None}
        await queries.suppress(connection, bad, scope="all")
        return [doubts.get(each.key, 0) for each in settled]

    def decide(self, claim: Claim, row: Row, crowd: Crowd | None) -> Verdict:
        """The first objection to sending this letter now, or none. Pure."""
        if row.status not in {"pending", "sending", "unknown"}:
            return Verdict("stop", row.status, f"already {row.status}", log_id=row.id)
        if row.is_held:
            return Verdict("stop", row.status, "held for the digest", log_id=row.id)
        if row.digest is not None and row.digest != row.key:
            return Verdict("stop", row.status, "goes out in a digest", log_id=row.id)
        if row.status == "sending" and (left := _lease(row)) > timedelta(0):
            return Verdict("wait", row.status, "somebody is sending it just now", left, log_id=row.id)
        doubts = _doubts(row)
        if doubts >= DOUBTS:
            return _stop(row, "unknown", f"it may have been sent in each of {doubts} attempts, or never")
        return (
            _unwanted(claim, row)
            or _too_late(claim, row)
            or self._quiet(claim, row)
            or self._crowded(row, crowd)
            or Verdict("send", "sending", log_id=row.id, attempt=row.attempts + 1)
        )

    def _quiet(self, claim: Claim, row: Row) -> Verdict | None:
        if claim.critical or row.quiet_from is None or row.quiet_until is None:
            return None
        zone = zone_of(row.timezone, self._zone)
        end = quiet_until(row.now, begin=row.quiet_from, end=row.quiet_until, zone=zone)
        if end is None:
            return None
        return Verdict("wait", _resting(row), "its reader's quiet hours", min(end - row.now, LOOK_AGAIN), log_id=row.id)

    def _crowded(self, row: Row, crowd: Crowd | None) -> Verdict | None:
        """What follows something held is held, too. What came out of a digest, or was in doubt, never goes back."""
        if crowd is None or row.digest is not None or _doubts(row):
            return None
        if not crowd.is_holding and crowd.sent < self._above:
            return None
        return Verdict("hold", "pending", "held for the digest", log_id=row.id)


def _lease(row: Row) -> timedelta:
    """How much longer its sender counts as alive."""
    return LEASE - (row.now - (row.updated_at or row.asked_at))


def _doubts(row: Row) -> int:
    """A sender that died has left one more."""
    return row.doubts + (row.status == "sending")


def _resting(row: Row) -> str:
    return "unknown" if _doubts(row) else "pending"


def _stop(row: Row, status: str, reason: str) -> Verdict:
    """What may have arrived is never said to be unsent."""
    return Verdict("stop", "unknown" if _doubts(row) else status, reason, log_id=row.id)


def _unwanted(claim: Claim, row: Row) -> Verdict | None:
    if "all" in row.suppressed:
        return _stop(row, "suppressed", "the address is suppressed")
    if claim.subscribed and "subscribed" in row.suppressed:
        return _stop(row, "suppressed", "its reader has unsubscribed")
    if not claim.critical and not row.wants_email:
        return _stop(row, "suppressed", "its reader wants no e-mail")
    return None


def _too_late(claim: Claim, row: Row) -> Verdict | None:
    if row.now >= (claim.expires_at or row.asked_at + claim.keeps_for):
        return _stop(row, "expired", "not worth sending any more")
    if row.attempts and row.now >= row.asked_at + TRIED_FOR:
        return _stop(row, "failed", f"given up after {row.attempts} attempts in {TRIED_FOR.days} days")
    return None


def _note(row: Row, verdict: Verdict, crowd: Crowd | None) -> None:
    """Change the row as the verdict says, for the next one who asks for it."""
    row.doubts, row.status = _doubts(row), verdict.status
    row.attempts, row.updated_at = row.attempts + (verdict.act == "send"), row.now
    row.is_held = verdict.act == "hold"
    if crowd is not None:
        crowd.sent += verdict.act == "send"
        crowd.is_holding = crowd.is_holding or row.is_held
