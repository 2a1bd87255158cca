"""What a server's reply means for a letter, or its silence. Pure.

    reply, or loss ─► sent | later | refused | bad_address | ours | unknown

The first digit of the reply decides between later and never (RFC 5321 §4.2.1), the enhanced code (RFC 3463) whose fault
it is, and the phase what the server was talking of: only its word about the recipient may cost somebody his letters.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

LONGEST = 500  # characters of a reply that are kept

Outcome = Literal[
    "sent",  # the server has taken the letter, and answers for it
    "later",  # not now: again after a while
    "refused",  # never this letter
    "bad_address",  # never any letter to this address
    "ours",  # our fault: tell somebody, try again later; the address is as good as before
    "unknown",  # the server may have taken the letter, or not
]
# How far the conversation had come; `dot` is the end of the letter, after which the server may have taken it.
Phase = Literal["connect", "tls", "hello", "login", "mail", "rcpt", "data", "dot"]

OPENING: frozenset[Phase] = frozenset({"connect", "tls", "hello", "login"})  # no letter has been spoken of yet
NO_MAILBOX = frozenset({"5.1.1", "5.1.2", "5.1.3", "5.1.10", "5.2.1"})
MAILBOX_FULL, TOO_LARGE = "5.2.2", frozenset({"5.2.3", "5.3.4"})
BAD_SENDER = frozenset({"5.1.7", "5.1.8"})  # servers say so at RCPT, too
LOGIN_CODES = frozenset({432, 530, 534, 535, 538})  # RFC 4954 §6
OUT_OF_STORAGE = 552  # at RCPT: too many recipients, as old servers put it

ENHANCED = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")  # at the start of each line of a reply


@dataclass(frozen=True, slots=True)
class Fate:
    """What has become of a letter.

    Args:
        reply: the server's own words, `550 5.1.1 no such user`, or ours where it said nothing; fit for a log.
        phase: where the conversation ended.
        code: the reply's; None where there was none.
    """

    outcome: Outcome
    reply: str
    phase: Phase
    code: int | None = None


def judge(phase: Phase, code: int, text: str, *, secrets: Iterable[str] = ()) -> Fate:
    """The fate that a reply decides: one that ends the conversation, as a refusal or at its end."""
    enhanced = match[1] if (match := ENHANCED.match(text)) else None
    return Fate(_outcome(phase, code, enhanced), _said(code, enhanced, text, secrets), phase, code)


def lost(phase: Phase, reason: str, *, secrets: Iterable[str] = ()) -> Fate:
    """The fate when no reply came: not connected, connection lost, or waited for in vain."""
    return Fate("unknown" if phase == "dot" else "later", _clean(reason, secrets), phase)


def unfit(outcome: Outcome, phase: Phase, reason: str, *, secrets: Iterable[str] = ()) -> Fate:
    """A fate that we know ourselves, without asking, or because we break off."""
    return Fate(outcome, _clean(reason, secrets), phase)


def _outcome(phase: Phase, code: int, enhanced: str | None) -> Outcome:
    match code // 100:
        case 2 if phase == "dot":
            return "sent"
        case 4:
            return "ours" if code in LOGIN_CODES else "later"
        case 5:
            return _refusal(phase, code, enhanced)
    return "unknown" if phase == "dot" else "later"  # no reply that SMTP knows


def _refusal(phase: Phase, code: int, enhanced: str | None) -> Outcome:
    if enhanced and enhanced.startswith("4."):
        return "later"
    if phase in OPENING or code in LOGIN_CODES or enhanced in BAD_SENDER or (enhanced or "").startswith("5.7."):
        return "ours"
    if phase == "mail":
        return "refused" if code == OUT_OF_STORAGE or enhanced in TOO_LARGE else "ours"
    if enhanced in NO_MAILBOX:
        return "bad_address"
    if enhanced == MAILBOX_FULL or (phase == "rcpt" and code == OUT_OF_STORAGE and enhanced not in TOO_LARGE):
        return "later"
    return "refused"


def _said(code: int, enhanced: str | None, text: str, secrets: Iterable[str]) -> str:
    """Each line of a long reply begins with the enhanced code; said once, it is enough."""
    lines = [ENHANCED.sub("", line, count=1) if enhanced else line for line in text.splitlines()]
    return _clean(" ".join([str(code), *([enhanced] if enhanced else []), *lines]), secrets)


def _clean(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    words = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"
