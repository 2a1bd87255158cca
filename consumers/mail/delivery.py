"""Letters: what is asked for is sent once, and the notification log says what became of it.

    asked ─► taken, with all that are taken at the same time ─► rendered, sent ─► logged ─► claimed

The letter cannot be rolled back, so its row of the log is its claim (`ledger`), not the inbox. A letter that the server
puts off comes back through the broker's waits for three days, or as long as it is worth sending; it is never a dead
letter. Preferences, suppressions and quiet hours are looked at here, and not when it was asked for.
"""

import re
from datetime import timedelta

from loguru import logger

from consumers.mail.delivery_log import (
    DIGESTED,
    DOUBTS,
    Claim,
    Outcome,
    Settled,
    Verdict,
)
from consumers.mail.sender import Desk, open_desk
from pocketwatch.broker.topology import MAIL_DELIVERY
from pocketwatch.errors import RetryLater
from pocketwatch.smtp.replies import Fate
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import SideEffectContext
from schemas.emails import ManagerDigest
from schemas.mail import MailRequested

OUR_FAULT = "MAIL SERVER REFUSES US"
# After the first attempt, the second, the third and all later ones.
WAITS = (timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2))
WAIT_FOR_US = timedelta(minutes=30)  # until somebody has put our settings right
WAIT_IN_DOUBT = timedelta(minutes=5)
KEPT = {"letter", "user_id", "expires_at"}  # of a wish that is held; the rest is in its row
LOCAL_PART = re.compile(r"[^\s<>\"'(),:;]+(?=@[\w.-])")


@consumer(MAIL_DELIVERY, lifespan=open_desk)
async def deliver_letter(wish: MailRequested, context: SideEffectContext) -> None:
    """Send the letter, unless its reader does not want it, it is late, or it goes into a digest."""
    desk: Desk = context.resource
    claim = claim_of(wish, context.message_id, desk)
    async with desk.room:
        verdict, fate, doubts = await desk.finish(take_and_send(wish, claim, desk, context))
    context.record(letter=claim.letter, log=verdict.log_id, letter_status=verdict.status)
    if verdict.act == "wait":
        raise RetryLater(verdict.reason, after=verdict.after)
    if fate is None:
        return context.mark_skipped(verdict.reason)
    context.record(letter_status=STATUSES[fate.outcome])
    return conclude(fate, context, attempt=verdict.attempt, doubts=doubts)


def claim_of(wish: MailRequested, message_id: str, desk: Desk) -> Claim:
    """What the log has to know of a letter."""
    letter, key = wish.letter, wish.key or f"{message_id}:{wish.to}:email"
    return Claim(
        key=key,
        recipient=wish.to,
        letter=letter.name,
        locale=wish.locale,
        external_id=desk.message_id(key),
        user_id=wish.user_id,
        notification_id=wish.notification_id,
        expires_at=wish.expires_at or letter.keeps_until,
        keeps_for=letter.keeps_for,
        subscribed=letter.subscribed,
        critical=letter.critical,
        is_digest=isinstance(letter, ManagerDigest),
        held=wish.model_dump_json(include=KEPT) if letter.name in DIGESTED else None,
    )


async def take_and_send(
    wish: MailRequested, claim: Claim, desk: Desk, context: SideEffectContext
) -> tuple[Verdict, Fate | None, int]:
    """What was decided about the letter; and of one that is sent, what `send_and_log` says."""
    verdict = await context.run_batched(desk.ledger.take, claim)
    if verdict.act != "send":
        return verdict, None, 0
    return verdict, *await send_and_log(wish, claim, desk, context)


async def send_and_log(wish: MailRequested, claim: Claim, desk: Desk, context: SideEffectContext) -> tuple[Fate, int]:
    """What became of the letter, and how many attempts may have sent it without anybody knowing.

    A letter that could not be written is as if never taken. One that was sent, but whose fate cannot be logged, stays
    `sending`: a doubt, never unsaid.
    """
    desk.in_hand.add(claim.key)
    try:
        fate = await sent_or_put_back(wish, claim, desk, context)
        return fate, await context.run_batched(desk.ledger.settle, settled(fate, claim))
    finally:
        desk.in_hand.discard(claim.key)


async def sent_or_put_back(wish: MailRequested, claim: Claim, desk: Desk, context: SideEffectContext) -> Fate:
    """What became of the letter; what is wrong with the templates is raised, and noted in its row."""
    try:
        return await desk.send(wish, claim.external_id)
    except Exception as error:
        unsent = Settled(claim.key, "pending", "", f"{type(error).__name__}: {error}"[:500])
        await context.run_batched(desk.ledger.settle, unsent)
        raise


STATUSES: dict[str, Outcome] = {
    "sent": "sent",
    "later": "pending",
    "ours": "pending",
    "refused": "failed",
    "bad_address": "failed",
    "unknown": "unknown",
}


def settled(fate: Fate, claim: Claim) -> Settled:
    """What the log says of this fate."""
    return Settled(
        claim.key,
        STATUSES[fate.outcome],
        fate.reply,
        error="" if fate.outcome == "sent" else fate.reply,
        is_doubt=fate.outcome == "unknown",
        bad_address=claim.recipient if fate.outcome == "bad_address" else None,
        is_digest=claim.is_digest,
    )


def conclude(fate: Fate, context: SideEffectContext, *, attempt: int, doubts: int) -> None:
    """What becomes of the message.

    Raises:
        TryLater: when the letter is to be sent again.
    """
    said = without_names(fate.reply)
    match fate.outcome:
        case "later":
            raise RetryLater(said, after=WAITS[min(attempt, len(WAITS)) - 1])
        case "ours":
            logger.bind(reply=said).error(OUR_FAULT)
            raise RetryLater(said, after=WAIT_FOR_US)
        case "unknown" if doubts < DOUBTS:
            raise RetryLater(f"nobody knows whether it was sent: {said}", after=WAIT_IN_DOUBT)
        case "unknown" | "refused" | "bad_address":
            context.mark_partial(said)


def without_names(reply: str) -> str:
    """A server's reply fit for logs that many read: without the part of addresses that names a person."""
    return LOCAL_PART.sub("…", reply)
