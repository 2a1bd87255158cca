"""What rejections mean: whether the server refuses us, this recipient, or this message.

The table is read from top to bottom, and the first rule that holds decides. Words come before codes, because servers
that check everything at RCPT send codes of the recipient for what they find wrong with us. A rejection without a rule
is retried like a deferral: better late than lost for a misunderstanding.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

Outcome = Literal[
    "sent",  # the server has accepted the message
    "later",  # temporary error, or one for an unknown reason
    "refused",  # permanent error for this message
    "bad_address",  # permanent error for every message to this address
    "config_error",  # the server refuses us; the address is good, retry when an operator has acted
    "unknown",  # the server may or may not have accepted the message
]
# How far the session had come. From `end_of_data` on, the server may have accepted the message.
Phase = Literal["connect", "tls", "ehlo", "auth", "mail", "rcpt", "data", "end_of_data"]

SESSION_PHASES: frozenset[Phase] = frozenset({"connect", "tls", "ehlo", "auth"})  # before any message


@dataclass(frozen=True, slots=True)
class Rule:
    """Replies that mean the same; every criterion that is given must hold.

    Args:
        source: of the meaning: a standard, or the servers that reply so.
        text: regular expression, searched for in the reply regardless of case.
        enhanced: regular expression for the whole enhanced code, such as `5.7.1`.
        codes: of the reply.
        phases: of the session.
        also_4yz: holds for temporary errors, too: waiting does not help.
    """

    outcome: Outcome
    source: str
    text: str | None = None
    enhanced: str | None = None
    codes: Collection[int] = ()
    phases: Collection[Phase] = ()
    also_4yz: bool = False

    def matches(self, phase: Phase, code: int, enhanced: str | None, text: str) -> bool:
        return (
            (code // 100 == 5 or self.also_4yz)  # noqa: PLR2004  5yz
            and (not self.phases or phase in self.phases)
            and (not self.codes or code in self.codes)
            and (self.enhanced is None or re.fullmatch(self.enhanced, enhanced or "") is not None)
            and (self.text is None or re.search(self.text, text, re.IGNORECASE) is not None)
        )


RULES: tuple[Rule, ...] = (
    Rule("later", "RFC 6647: greylisting, by some servers with 5yz", text=r"gr[ae]y-?list", also_4yz=True),
    Rule("later", "RFC 3463 §2: temporary", enhanced=r"4\..*"),
    # Before a recipient is named, every rejection but that of a size is about us.
    Rule("config_error", "RFC 5321 §4.2.1: the session", phases=SESSION_PHASES),
    Rule("refused", "RFC 1870 §6.1: size", phases={"mail"}, enhanced=r"5\.2\.3|5\.3\.4"),
    Rule("refused", "RFC 1870 §6.1: size", phases={"mail"}, codes={552}),
    Rule("config_error", "RFC 5321 §3.3: MAIL is about the sender", phases={"mail"}),
    # The recipient accepts nothing from unknown senders.
    Rule("refused", "RFC 3463 §3.8, RFC 7293: list, or new owner", enhanced=r"5\.7\.(2|17|18)"),
    Rule("refused", "Exchange Online: closed group or mailbox", enhanced=r"5\.7\.(124|129|13[3-6])"),
    Rule("later", "Exchange Online: too many emails to this recipient", enhanced=r"5\.2\.12[12]"),
    # Us, in words.
    Rule(
        "config_error",
        "Postfix, Exim, Sendmail: our EHLO name",
        text=r"(?<![@.\w-])(helo|ehlo)(?![@\w-]|\.\w)|need fully-qualified hostname",
        also_4yz=True,
    ),
    Rule(
        "config_error",
        "Postfix, Exim, Sendmail: our sender address",
        text=r"sender (address )?(rejected|verif\w+)|verify sender|domain of sender|sender domain"
        r"|domain name required for sender|(unknown|invalid|bad|unverified) (outbound )?sender",
        also_4yz=True,
    ),
    Rule(
        "config_error",
        "Exchange, SES: our account may not use this sender",
        text=r"send ?as ?denied|permissions? to send as|not (allowed|authorized|permitted) to send as"
        r"|address is not verified|invalid mail from|not authorized to perform",
        also_4yz=True,
    ),
    Rule(
        "config_error",
        "Postfix, Exim, Sendmail, Exchange, qmail, Gmail: relaying",
        text=r"relay(ing)? (access )?(denied|not permitted|not allowed|prohibited)|unable to relay|rcpthosts"
        r"|not (permitted|allowed) to relay|(cannot|can't|do not|don't|will not|won't) relay",
        also_4yz=True,
    ),
    Rule(
        "config_error",
        "Exim, Exchange, Gmail: login or TLS required",
        text=r"auth\w* (is )?required|not authenticated|must authenticate|must issue a? ?starttls"
        r"|(tls|encryption) (is )?required",
        also_4yz=True,
    ),
    Rule(
        "config_error",
        "Postfix, Exchange Online, blocklists: our IP address",
        text=r"client host (rejected|\[)|blocked using|black-?list|block-? ?list|dnsbl|\brbl\b|spamhaus|spamcop"
        r"|cannot find your|reverse (dns|lookup|hostname)|ptr record|(poor|bad|low) reputation"
        r"|traffic not accepted",
        also_4yz=True,
    ),
    Rule(
        "config_error",
        "Gmail, SES, Exchange Online: limits of our account",
        text=r"\b(sending(?! to\b)|submission|outgoing|outbound|daily|hourly)( \w+){0,2} (limits?|quota|rate)\b"
        r"|\b(limit|quota)\b.*\bper (day|hour)|throttl|sending (is |has been )?(suspended|paused|disabled)"
        r"|your account.*\b(suspended|paused|disabled)",
    ),
    # The recipient or the message, by enhanced code.
    Rule("bad_address", "RFC 3463 §3.2, §3.3, RFC 7505", enhanced=r"5\.1\.(1|2|3|10)|5\.2\.1"),
    Rule("later", "RFC 3463 §3.3: mailbox full", enhanced=r"5\.2\.2"),
    Rule("later", "RFC 3463 §3.6: too many recipients", enhanced=r"5\.5\.3"),
    Rule("refused", "RFC 3463 §3.2, RFC 7504: ambiguous, moved, takes no mail", enhanced=r"5\.1\.[469]"),
    Rule("refused", "RFC 3463 §3.3, §3.4: too large, or a list", enhanced=r"5\.2\.[34]|5\.3\.4"),
    Rule("refused", "RFC 3463 §3.5, Exchange Online: no route to the recipient", enhanced=r"5\.4\.(1|4|310)"),
    Rule("refused", "RFC 3463 §3.7: content", enhanced=r"5\.6\..*"),
    # Us, by code.
    Rule("config_error", "RFC 3463 §3.2, Exchange Online: our sender address", enhanced=r"5\.1\.(7|8|90)"),
    Rule("config_error", "RFC 3463 §3.4: the server itself is misconfigured", enhanced=r"5\.3\.[25]"),
    Rule("config_error", "RFC 3463 §3.5, Gmail: our sending limit", enhanced=r"5\.4\.5"),
    Rule("config_error", "RFC 3463 §3.8: policy", enhanced=r"5\.7\..*"),
    Rule("config_error", "RFC 4954 §6: login", codes={530, 534, 535, 538}),
    Rule("config_error", "RFC 4954 §6: login", codes={432}, phases={"auth"}, also_4yz=True),
    Rule(
        "config_error",
        "RFC 3463 §3.2, §3.8, RFC 7372: sender, SPF, DNS",
        enhanced=r"4\.1\.[78]|4\.7\.2[3-7]",
        also_4yz=True,
    ),
    # The recipient, in words.
    Rule("later", "RFC 5321 §3.3: the server has dropped a recipient it had accepted", text="no valid recipients"),
    Rule(
        "later",
        "Exim, Dovecot: mailbox full",
        text=r"(mailbox|account|inbox).*\b(full|quota)|over ?quota|quota exceeded",
    ),
    Rule(
        "refused",
        "Postfix, Exim, Sendmail, qmail: unknown recipient",
        text=r"recipient address rejected|no such (user|mailbox|recipient|person|account|address)"
        r"|(user|mailbox|recipient|account|address)\b.*\b(unknown|not found|does not exist|doesn't exist|unavailable"
        r"|disabled|inactive|not allowed)|(unknown|invalid) (local part|user|mailbox|recipient|address)"
        r"|unroute?able address|no mailbox here",
    ),
    Rule("refused", "widely used: content", text=r"\b(spam|virus|malware)\b", phases={"data", "end_of_data"}),
    # What is left.
    Rule("config_error", "RFC 3463 §3.6: we and the server", enhanced=r"5\.5\.[1245]"),
    Rule("later", "RFC 5321 §4.5.3.1.10: too many recipients, in old servers", codes={552}, phases={"rcpt"}),
    Rule("refused", "RFC 5321 §4.2.3: size", codes={552}),
    Rule("refused", "RFC 5321 §4.2.3, RFC 7504: moved, not allowed, no mail", codes={551, 553, 556}, phases={"rcpt"}),
)


def find_rule(phase: Phase, code: int, enhanced: str | None, text: str) -> Rule | None:
    """Return the first rule for a reply of 4yz or 5yz."""
    return next((rule for rule in RULES if rule.matches(phase, code, enhanced, text)), None)
