"""Send requested emails once, and log what became of each.

    request ─► claimed, in a batch ─► rendered, sent ─► logged ─► acknowledged

Sending cannot be rolled back, so the row in the delivery log is the claim, not the inbox. An email that the server
defers comes back through the broker's delay queues for three days, or as long as it is worth sending; it is never a
dead letter. Preferences, suppressions and quiet hours apply when it is sent, not when it is requested.
"""

import re
from datetime import timedelta

from consumers.mail.decisions import DIGEST_KINDS, MAX_UNCONFIRMED, Claim, DeliveryDecision
from consumers.mail.delivery_log import Result, State
from consumers.mail.queries import REFUSED
from consumers.mail.sender import EmailSender, open_sender
from pocketwatch.broker.topology import MAIL_DELIVERY
from pocketwatch.errors import RetryLater
from pocketwatch.smtp.replies import DeliveryResult
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import SideEffectContext
from schemas.emails import ManagerDigestEmail
from schemas.mail import MailRequested

# After the first attempt, the second, the third and all later ones.
RETRY_DELAYS = (timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2))
CONFIG_ERROR_DELAY = timedelta(minutes=30)
UNCONFIRMED_DELAY = timedelta(minutes=5)
STORED_FIELDS = {"letter", "user_id", "expires_at"}  # of a request; the others have columns
LOCAL_PART = re.compile(r"[^\s<>\"'(),:;]+(?=@[\w.-])")
STATES: dict[str, State] = {
    "sent": "sent",
    "later": "pending",
    "config_error": "pending",
    "refused": "failed",
    "bad_address": "failed",
    "unknown": "unknown",
}


@consumer(MAIL_DELIVERY, lifespan=open_sender)
async def deliver_email(request: MailRequested, context: SideEffectContext) -> None:
    """Send the email, unless it is unwanted, expired, already sent, or held for a digest."""
    sender: EmailSender = context.resource
    claim = claim_for(request, context.message_id, sender)
    async with sender.slots:
        decision, result, unconfirmed = await sender.run_to_completion(claim_and_send(request, claim, sender, context))
    context.record(letter=claim.email, log=decision.log_id, letter_status=decision.state)
    if decision.action == "wait":
        raise RetryLater(decision.reason, after=decision.after)
    if result is None:
        return context.mark_skipped(decision.reason)
    context.record(letter_status=STATES[result.outcome])
    return conclude(result, context, attempt=decision.attempt, unconfirmed=unconfirmed)


def claim_for(request: MailRequested, message_id: str, sender: EmailSender) -> Claim:
    email, key = request.letter, request.key or f"{message_id}:{request.to}:email"
    return Claim(
        key=key,
        recipient=request.to,
        email=email.name,
        locale=request.locale,
        external_id=sender.message_id(key),
        user_id=request.user_id,
        notification_id=request.notification_id,
        expires_at=request.expires_at or email.expires_at,
        lifetime=email.lifetime,
        subscribed=email.subscribed,
        critical=email.critical,
        is_digest=isinstance(email, ManagerDigestEmail),
        request=request.model_dump_json(include=STORED_FIELDS),
        may_be_held=email.name in DIGEST_KINDS,
    )


async def claim_and_send(
    request: MailRequested, claim: Claim, sender: EmailSender, context: SideEffectContext
) -> tuple[DeliveryDecision, DeliveryResult | None, int]:
    """Return the decision and, if the email was to be sent, the result and the number of unconfirmed attempts.

    If the result cannot be logged, the row stays `sending`, which counts as an unconfirmed attempt.
    """
    decision = await context.run_batched(sender.log.claim, claim)
    if decision.action != "send":
        return decision, None, 0
    sender.in_flight.add(claim.key)
    try:
        result = await send_or_release(request, claim, sender, context)
        sender.incident.observe(result.outcome, without_local_parts(result.reply))
        return decision, result, await context.run_batched(sender.log.record_result, logged_result(result, claim))
    finally:
        sender.in_flight.discard(claim.key)


async def send_or_release(
    request: MailRequested, claim: Claim, sender: EmailSender, context: SideEffectContext
) -> DeliveryResult:
    """Send the email; if it cannot be rendered, release its row and raise."""
    try:
        return await sender.send(request, claim.external_id)
    except Exception as error:
        unsent = Result(claim.key, "pending", "", f"{type(error).__name__}: {error}"[:500])
        await context.run_batched(sender.log.record_result, unsent)
        raise


def logged_result(result: DeliveryResult, claim: Claim) -> Result:
    is_refusal = result.outcome == "config_error"
    return Result(
        claim.key,
        STATES[result.outcome],
        result.reply,
        error="" if result.outcome == "sent" else f"{REFUSED if is_refusal else ''}{result.reply}",
        is_unconfirmed=result.outcome == "unknown",
        counts=not is_refusal,
        bad_address=claim.recipient if result.outcome == "bad_address" else None,
        is_digest=claim.is_digest,
    )


def conclude(result: DeliveryResult, context: SideEffectContext, *, attempt: int, unconfirmed: int) -> None:
    """Set the outcome of the message.

    Raises:
        RetryLater: when the email is to be sent again.
    """
    reply = without_local_parts(result.reply)
    match result.outcome:
        case "later":
            raise RetryLater(reply, after=RETRY_DELAYS[min(attempt, len(RETRY_DELAYS)) - 1])
        case "config_error":
            raise RetryLater(reply, after=CONFIG_ERROR_DELAY)
        case "unknown" if unconfirmed < MAX_UNCONFIRMED:
            raise RetryLater(f"delivery unconfirmed: {reply}", after=UNCONFIRMED_DELAY)
        case "unknown" | "refused" | "bad_address":
            context.mark_partial(reply)


def without_local_parts(reply: str) -> str:
    """Mask the local part of email addresses, which names a person, for logs that many people read."""
    return LOCAL_PART.sub("…", reply)
