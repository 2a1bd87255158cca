"""Decide whether a requested email is sent now, later, in a digest, or not at all. Pure.

An attempt is unconfirmed when the email may have arrived: the sender died, or lost its connection after the end of
data. Such an email is sent once more under the same Message-ID; after a second such attempt it stays `unknown`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from consumers.mail.quiet_hours import quiet_hours_end, recipient_timezone
from schemas.emails import EMAILS, DigestKind

Action = Literal["send", "hold", "wait", "stop"]

LEASE = timedelta(minutes=1)  # a sender that has not renewed it is dead
RETRY_FOR = timedelta(days=3)  # an email that the server keeps deferring has failed then
MAX_UNCONFIRMED = 2  # attempts
MAX_QUIET_WAIT = timedelta(minutes=30)  # the broker has few delay queues, so quiet hours are checked again
# Kinds that a digest may replace. Critical ones, and the digest itself, are never held.
DIGEST_KINDS = tuple(name for name in get_args(DigestKind) if not EMAILS[name].critical)


@dataclass(frozen=True, slots=True)
class Claim:
    """A request for an email, as the delivery log needs it.

    Args:
        expires_at: when it is no longer worth sending; None: `lifetime` after the request.
        request: the email with its facts, as JSON.
        may_be_held: for a digest.
    """

    key: str
    recipient: str
    email: str
    locale: str
    external_id: str
    expires_at: datetime | None
    lifetime: timedelta
    user_id: int | None = None
    notification_id: int | None = None
    subscribed: bool = False
    critical: bool = False
    is_digest: bool = False
    request: str | None = None
    may_be_held: bool = False


@dataclass(slots=True)
class LogRow:
    """The locked row of an email, with the recipient's preferences; decisions change it."""

    key: str
    id: int
    state: str
    attempts: int
    unconfirmed: int  # attempts
    requested_at: datetime  # when sent: the time of sending
    updated_at: datetime | None
    is_held: bool
    digest: str | None
    now: datetime
    suppressed: Sequence[str]  # scopes
    wants_email: bool
    quiet_from: time | None
    quiet_until: time | None
    timezone: str | None


@dataclass(slots=True)
class RecentVolume:
    """How many emails a recipient got within the window, and whether any are held."""

    sent: int = 0
    is_holding: bool = False


@dataclass(frozen=True, slots=True)
class DeliveryDecision:
    """What to do with an email, and the new state of its row.

    Args:
        reason: why it is not sent.
        after: how long to wait.
        log_id: the id of its row.
        attempt: counted from 1.
    """

    action: Action
    state: str
    reason: str = ""
    after: timedelta = timedelta(0)
    log_id: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """The settings that decisions depend on.

    Args:
        timezone: of recipients without one of their own.
        digest_threshold: emails per recipient and window, after which more are held.
    """

    timezone: ZoneInfo
    digest_threshold: int

    def decide(self, claim: Claim, row: LogRow, volume: RecentVolume | None) -> DeliveryDecision:
        """Return the first reason not to send the email now, or the decision to send it."""
        if row.state not in {"pending", "sending", "unknown"}:
            return DeliveryDecision("stop", row.state, f"already {row.state}", log_id=row.id)
        if row.is_held:
            return DeliveryDecision("stop", row.state, "held for the digest", log_id=row.id)
        if row.digest is not None and row.digest != row.key:
            return DeliveryDecision("stop", row.state, "sent in a digest", log_id=row.id)
        if row.state == "sending" and (lease := _remaining_lease(row)) > timedelta(0):
            return DeliveryDecision("wait", row.state, "another process is sending it", lease, log_id=row.id)
        attempts = unconfirmed_attempts(row)
        if attempts >= MAX_UNCONFIRMED:
            return _stop(row, "unknown", f"delivery unconfirmed after {attempts} attempts")
        return (
            _suppressed(claim, row)
            or _expired(claim, row)
            or self._quiet(claim, row)
            or self._held(row, volume)
            or DeliveryDecision("send", "sending", log_id=row.id, attempt=row.attempts + 1)
        )

    def _quiet(self, claim: Claim, row: LogRow) -> DeliveryDecision | None:
        if claim.critical or row.quiet_from is None or row.quiet_until is None:
            return None
        zone = recipient_timezone(row.timezone, self.timezone)
        end = quiet_hours_end(row.now, start=row.quiet_from, end=row.quiet_until, zone=zone)
        if end is None:
            return None
        state = "unknown" if unconfirmed_attempts(row) else "pending"
        return DeliveryDecision(
            "wait", state, "quiet hours of the recipient", min(end - row.now, MAX_QUIET_WAIT), log_id=row.id
        )

    def _held(self, row: LogRow, volume: RecentVolume | None) -> DeliveryDecision | None:
        """Hold for a digest; never what was released from one, or is unconfirmed."""
        if volume is None or row.digest is not None or unconfirmed_attempts(row):
            return None
        if not volume.is_holding and volume.sent < self.digest_threshold:
            return None
        return DeliveryDecision("hold", "pending", "held for the digest", log_id=row.id)


def unconfirmed_attempts(row: LogRow) -> int:
    """Count them, that of a sender which died included."""
    return row.unconfirmed + (row.state == "sending")


def _remaining_lease(row: LogRow) -> timedelta:
    age = row.now - (row.updated_at or row.requested_at)
    return LEASE - age if age > -LEASE else timedelta(0)  # in the future: renewed by a clock that has been set back


def _stop(row: LogRow, state: str, reason: str) -> DeliveryDecision:
    """Stop; an email that may have arrived stays `unknown`."""
    return DeliveryDecision("stop", "unknown" if unconfirmed_attempts(row) else state, reason, log_id=row.id)


def _suppressed(claim: Claim, row: LogRow) -> DeliveryDecision | None:
    if "all" in row.suppressed:
        return _stop(row, "suppressed", "address suppressed")
    if claim.subscribed and "subscribed" in row.suppressed:
        return _stop(row, "suppressed", "recipient has unsubscribed")
    if not claim.critical and not row.wants_email:
        return _stop(row, "suppressed", "recipient has disabled email")
    return None


def _expired(claim: Claim, row: LogRow) -> DeliveryDecision | None:
    if row.now >= (claim.expires_at or row.requested_at + claim.lifetime):
        return _stop(row, "expired", "expired before it was sent")
    if row.attempts and row.now >= row.requested_at + RETRY_FOR:
        return _stop(row, "failed", f"not accepted in {row.attempts} attempts within {RETRY_FOR.days} days")
    return None
