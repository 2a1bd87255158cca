"""Classify SMTP replies, and connections lost without one.

The first digit of a reply separates temporary from permanent errors (RFC 5321 §4.2.1), the enhanced code (RFC 3463)
says what is wrong, and the phase what the reply refers to: only one about the recipient can mark an address as bad.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pocketwatch.text import shorten

MAX_REPLY_LENGTH = 500  # characters that are kept

Outcome = Literal[
    "sent",  # the server has accepted the message
    "later",  # temporary error
    "refused",  # permanent error for this message
    "bad_address",  # permanent error for every message to this address
    "config_error",  # our configuration or reputation; the address is good, retry when an operator has acted
    "unknown",  # the server may or may not have accepted the message
]
# How far the session had come. From `end_of_data` on, the server may have accepted the message.
Phase = Literal["connect", "tls", "ehlo", "auth", "mail", "rcpt", "data", "end_of_data"]

SESSION_PHASES: frozenset[Phase] = frozenset({"connect", "tls", "ehlo", "auth"})  # before any message
NO_MAILBOX = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.10", "5.2.1"})
MAILBOX_FULL, TOO_LARGE = "5.2.2", frozenset({"5.2.3", "5.3.4"})
BAD_SENDER = frozenset({"5.1.7", "5.1.8"})  # servers also reply so to RCPT
AUTH_CODES = frozenset({432, 530, 534, 535, 538})  # RFC 4954 §6
OUT_OF_STORAGE = 552  # at RCPT: too many recipients, in old servers

ENHANCED_CODE = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")  # at the start of each line of a reply


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The result of one attempt to send a message.

    Args:
        reply: the server's reply, such as `550 5.1.1 no such user`, or our own description; printable, without secrets.
        phase: where the session ended.
        code: of the reply; None without one.
    """

    outcome: Outcome
    reply: str
    phase: Phase
    code: int | None = None


def classify_reply(phase: Phase, code: int, text: str, *, secrets: Iterable[str] = ()) -> DeliveryResult:
    """Return the result that a final reply means: a rejection, or the reply to a whole message."""
    enhanced = match[1] if (match := ENHANCED_CODE.match(text)) else None
    return DeliveryResult(_outcome(phase, code, enhanced), _reply_text(code, enhanced, text, secrets), phase, code)


def connection_lost(phase: Phase, reason: str, *, secrets: Iterable[str] = ()) -> DeliveryResult:
    """Return the result when no reply came: not connected, disconnected, or timed out."""
    return DeliveryResult("unknown" if phase == "end_of_data" else "later", _clean(reason, secrets), phase)


def rejected_locally(outcome: Outcome, phase: Phase, reason: str, *, secrets: Iterable[str] = ()) -> DeliveryResult:
    """Return a result that is known without a reply."""
    return DeliveryResult(outcome, _clean(reason, secrets), phase)


def _outcome(phase: Phase, code: int, enhanced: str | None) -> Outcome:
    match code // 100:
        case 2 if phase == "end_of_data":
            return "sent"
        case 4:
            return "config_error" if code in AUTH_CODES else "later"
        case 5:
            return _permanent_error(phase, code, enhanced)
    return "unknown" if phase == "end_of_data" else "later"  # not a final reply of RFC 5321


def _permanent_error(phase: Phase, code: int, enhanced: str | None) -> Outcome:
    if enhanced and enhanced.startswith("4."):
        return "later"
    if phase in SESSION_PHASES or code in AUTH_CODES or enhanced in BAD_SENDER or (enhanced or "").startswith("5.7."):
        return "config_error"
    if phase == "mail":
        return "refused" if code == OUT_OF_STORAGE or enhanced in TOO_LARGE else "config_error"
    if enhanced in NO_MAILBOX:
        return "bad_address"
    if enhanced == MAILBOX_FULL or (phase == "rcpt" and code == OUT_OF_STORAGE and enhanced not in TOO_LARGE):
        return "later"
    return "refused"


def _reply_text(code: int, enhanced: str | None, text: str, secrets: Iterable[str]) -> str:
    lines = [ENHANCED_CODE.sub("", line, count=1) if enhanced else line for line in text.splitlines()]
    return _clean(" ".join([str(code), *([enhanced] if enhanced else []), *lines]), secrets)


def _clean(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    printable = "".join(character if character.isprintable() else " " for character in text)
    return shorten(" ".join(printable.split()), MAX_REPLY_LENGTH)
