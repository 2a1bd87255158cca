"""Classify SMTP replies, and connections lost without one.

The first digit of a reply separates temporary from permanent errors (RFC 5321 §4.2.1), the enhanced code (RFC 3463)
says what is wrong, and the phase what the reply refers to: only one about the recipient can mark an address as bad.
What a rejection means is in `reply_rules`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pocketwatch.smtp.reply_rules import Outcome, Phase, find_rule
from pocketwatch.text import shorten

MAX_REPLY_LENGTH = 500  # characters that are kept

ENHANCED_CODE = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")  # at the start of each line of a reply
QMAIL_CODE = re.compile(r"\(#([245]\.\d{1,3}\.\d{1,3})\)")  # at the end


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
    reply = _reply_text(code, text, secrets)
    return DeliveryResult(_outcome(phase, code, enhanced_code(text), reply), reply, phase, code)


def enhanced_code(text: str) -> str | None:
    """Return the enhanced code of a reply, such as `5.7.1`."""
    match = ENHANCED_CODE.match(text) or QMAIL_CODE.search(text)
    return match and match[1]


def connection_lost(phase: Phase, reason: str, *, secrets: Iterable[str] = ()) -> DeliveryResult:
    """Return the result when no reply came: not connected, disconnected, or timed out."""
    return DeliveryResult("unknown" if phase == "end_of_data" else "later", _clean(reason, secrets), phase)


def rejected_locally(outcome: Outcome, phase: Phase, reason: str, *, secrets: Iterable[str] = ()) -> DeliveryResult:
    """Return a result that is known without a reply."""
    return DeliveryResult(outcome, _clean(reason, secrets), phase)


def _outcome(phase: Phase, code: int, enhanced: str | None, text: str) -> Outcome:
    match code // 100:
        case 2 if phase == "end_of_data":
            return "sent"
        case 4 | 5:
            rule = find_rule(phase, code, enhanced, text)
            return rule.outcome if rule else "later"
    return "unknown" if phase == "end_of_data" else "later"  # not a final reply of RFC 5321


def _reply_text(code: int, text: str, secrets: Iterable[str]) -> str:
    lines = text.splitlines()
    if match := ENHANCED_CODE.match(text):
        lines = [match[1], *(ENHANCED_CODE.sub("", line, count=1) for line in lines)]
    return _clean(" ".join([str(code), *lines]), secrets)


def _clean(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    printable = "".join(character if character.isprintable() else " " for character in text)
    return shorten(" ".join(printable.split()), MAX_REPLY_LENGTH)
