"""What each SMTP reply means for a message, with its source."""

import pytest

from pocketwatch.smtp.replies import MAX_REPLY_LENGTH, classify_reply, connection_lost, enhanced_code
from pocketwatch.smtp.reply_rules import RULES, Outcome, Phase, Rule, find_rule

DOMAIN = "the project's facts on email"

REPLIES: list[tuple[Phase, int, str, Outcome, str]] = [
    ("end_of_data", 250, "2.0.0 queued as 1", "sent", "RFC 5321 §4.2.1: positive completion"),
    ("end_of_data", 251, "will forward", "sent", "RFC 5321 §4.2.1: by the first digit"),
    # Temporary
    ("connect", 421, "4.3.2 too busy", "later", "RFC 5321 §4.2.3"),
    ("mail", 421, "4.4.2 idle for too long", "later", "RFC 5321 §4.2.3"),
    ("mail", 451, "4.3.0 try again", "later", "RFC 5321 §4.2.3"),
    ("rcpt", 450, "4.2.0 mailbox busy", "later", "RFC 5321 §4.2.3"),
    ("rcpt", 451, "4.7.1 greylisted", "later", "RFC 6647 §2: greylisting"),
    ("rcpt", 452, "4.5.3 too many recipients", "later", "RFC 5321 §4.5.3.1.10"),
    ("rcpt", 450, "4.7.28 rate limited", "later", f"RFC 3463 §3.8, {DOMAIN}: throttling"),
    ("rcpt", 450, "5.1.1 not known yet", "later", "RFC 5321 §4.2.1: the first digit of the reply decides"),
    ("end_of_data", 452, "4.3.1 no room", "later", "RFC 5321 §4.2.3"),
    ("end_of_data", 421, "4.3.2 shutting down", "later", "RFC 5321 §4.2.3: not accepted"),
    ("end_of_data", 550, "4.4.7 expired", "later", f"{DOMAIN}: every 4.x.x"),
    ("rcpt", 552, "too many recipients", "later", "RFC 5321 §4.5.3.1.10: old servers, to be treated as 452"),
    ("rcpt", 552, "5.2.2 mailbox full", "later", f"RFC 3463 §3.3, {DOMAIN}"),
    ("end_of_data", 552, "5.2.2 mailbox full", "later", f"RFC 3463 §3.3, {DOMAIN}"),
    ("rcpt", 550, "5.2.2 mailbox full", "later", f"RFC 3463 §3.3, {DOMAIN}"),
    ("auth", 454, "4.7.0 temporary failure", "later", "RFC 4954 §4.7.0"),
    ("tls", 454, "4.7.0 TLS not available now", "later", "RFC 3207 §4"),
    ("mail", 999, "what?", "later", f"{DOMAIN}: unknown first digit"),
    ("rcpt", -1, "Malformed SMTP response line", "later", f"{DOMAIN}: unknown first digit"),
    ("data", 250, "ok?", "later", "RFC 5321 §4.3.2: DATA is answered with 354"),
    ("end_of_data", -1, "Malformed SMTP response line", "unknown", "it had the whole message"),
    ("end_of_data", 354, "go on", "unknown", "it had the whole message"),
    # Permanent, for this message
    ("rcpt", 550, "no such user", "refused", "RFC 5321 §4.2.3: also for policy, so the address is not suppressed"),
    ("rcpt", 551, "5.1.6 has moved", "refused", "RFC 5321 §4.2.3"),
    ("rcpt", 553, "name not allowed", "refused", "RFC 5321 §4.2.3"),
    ("rcpt", 556, "5.1.9 domain takes no mail", "refused", "RFC 7504 §4"),
    ("rcpt", 552, "5.3.4 message too big", "refused", "RFC 1870 §6.1: said at RCPT"),
    ("mail", 552, "5.3.4 message too big", "refused", "RFC 1870 §6.1"),
    ("mail", 552, "too much", "refused", "RFC 1870 §6.1"),
    ("end_of_data", 552, "5.3.4 message too big", "refused", "RFC 1870 §6.3"),
    ("end_of_data", 552, "exceeded storage", "refused", "RFC 5321 §4.2.3"),
    ("end_of_data", 541, "looks like spam", "refused", DOMAIN),
    ("end_of_data", 550, "5.6.0 broken MIME", "refused", "RFC 3463 §3.7"),
    ("rcpt", 550, "5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup", "refused", "Exchange Online"),
    ("rcpt", 550, "5.7.2 not on the list", "refused", "RFC 3463 §3.8"),
    ("rcpt", 550, "5.7.17 mailbox owner has changed", "refused", "RFC 7293 §14.2"),
    ("rcpt", 550, "5.2.3 too long for this mailbox", "refused", "RFC 3463 §3.3"),
    ("rcpt", 550, "5.4.1 Recipient address rejected: Access denied", "refused", "Exchange Online"),
    ("rcpt", 550, "5.4.4 unable to route", "refused", "RFC 3463 §3.5"),
    ("rcpt", 550, "5.1.4 ambiguous", "refused", "RFC 3463 §3.2"),
    ("rcpt", 551, "user not local", "refused", "RFC 5321 §3.4"),
    # The recipient in words
    ("rcpt", 504, "5.5.2 <x>: Recipient address rejected: need fully-qualified address", "refused", "Postfix"),
    ("rcpt", 550, "5.5.0 Requested action not taken: mailbox unavailable", "refused", "Outlook"),
    ("rcpt", 550, "Unrouteable address", "refused", "Exim"),
    ("rcpt", 550, "<x@y>: unknown user", "refused", "Exim"),
    ("rcpt", 550, "Mailbox is full", "later", "Exim"),
    ("rcpt", 550, "sorry, no mailbox here by that name (#5.1.1 - chkuser)", "refused", "qmail with chkuser"),
    ("rcpt", 550, "sorry, no mailbox here by that name (#5.1.1)", "bad_address", "qmail"),
    ("rcpt", 550, "5.1.1 <x@y>: User unknown in relay recipient table", "bad_address", "Postfix"),
    ("rcpt", 552, "5.2.2 The account you are sending to is over quota", "later", "Gmail"),
    ("rcpt", 550, "5.1.1 <ehlo@helo.example>: no such user", "bad_address", "no word about our greeting"),
    # For an unknown reason: retried for three days
    ("data", 554, "5.5.1 no valid recipients", "later", "RFC 5321 §3.3: replied to RCPT, if it is their fault"),
    ("rcpt", 550, "Administrative prohibition", "later", "Exim: any reason"),
    ("rcpt", 550, "5.0.0 rejected", "later", "RFC 3463 §3.1: undefined"),
    ("rcpt", 502, "not implemented", "later", "RFC 5321 §4.2.4: says nothing about the recipient"),
    ("end_of_data", 554, "transaction failed", "later", "RFC 5321 §4.2.3"),
    ("end_of_data", 550, "5.5.3 too many recipients", "later", "RFC 3463 §3.6"),
    ("end_of_data", 550, "5.2.121 recipient's per hour message receive limit exceeded", "later", "Exchange Online"),
    ("rcpt", 554, "5.7.1 <x@y>: Recipient address rejected: Greylisted", "later", "policy services of Postfix"),
    # Permanent, for this address
    ("rcpt", 550, "5.1.1 no such user", "bad_address", "RFC 3463 §3.2"),
    ("rcpt", 550, "5.1.2 no such domain", "bad_address", "RFC 3463 §3.2"),
    ("rcpt", 501, "5.1.3 bad syntax", "bad_address", "RFC 3463 §3.2"),
    ("rcpt", 556, "5.1.10 null MX", "bad_address", "RFC 7505 §4.2"),
    ("rcpt", 550, "5.2.1 mailbox disabled", "bad_address", "RFC 3463 §3.3"),
    ("end_of_data", 550, "5.1.1 no such user", "bad_address", "RFC 3463 §3.2: the message has one recipient"),
    # Configuration
    ("mail", 550, "5.1.1 unknown sender", "config_error", "RFC 5321 §3.3: MAIL is about the sender"),
    ("mail", 553, "5.1.8 bad sender domain", "config_error", "RFC 3463 §3.2"),
    ("mail", 501, "5.5.4 bad parameter", "config_error", "RFC 5321 §4.2.3"),
    ("rcpt", 550, "5.1.8 sender domain not found", "config_error", "RFC 3463 §3.2: replied late"),
    ("rcpt", 553, "5.1.7 bad sender", "config_error", "RFC 3463 §3.2: replied late"),
    ("mail", 530, "5.7.0 authentication required", "config_error", "RFC 4954 §6"),
    ("mail", 530, "authentication required", "config_error", "RFC 4954 §6"),
    ("mail", 530, "5.7.0 must issue STARTTLS first", "config_error", "RFC 3207 §4"),
    ("auth", 535, "5.7.8 credentials invalid", "config_error", "RFC 4954 §6"),
    ("auth", 534, "5.7.9 mechanism too weak", "config_error", "RFC 4954 §6"),
    ("auth", 538, "5.7.11 encryption required", "config_error", "RFC 4954 §6"),
    ("auth", 432, "4.7.12 password transition needed", "config_error", "RFC 4954 §6: waiting does not help"),
    ("rcpt", 550, "5.7.1 relaying denied", "config_error", f"RFC 3463 §3.8, {DOMAIN}"),
    ("end_of_data", 550, "5.7.1 refused by policy", "config_error", f"RFC 3463 §3.8, {DOMAIN}"),
    ("end_of_data", 550, "5.7.515 Access denied", "config_error", f"{DOMAIN}: Outlook's bulk rules"),
    # We, in words: at RCPT, or at the end of the message, with codes of the recipient
    ("rcpt", 504, "5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", "config_error", "Postfix"),
    ("rcpt", 450, "4.7.1 <shop>: Helo command rejected: Host not found", "config_error", "Postfix"),
    ("rcpt", 550, "Access denied - Invalid HELO name (See RFC2821 4.1.1.1)", "config_error", "Exim"),
    ("rcpt", 501, "EHLO requires domain address", "config_error", "Sendmail"),
    ("rcpt", 504, "5.5.2 <a@shop>: Sender address rejected: need fully-qualified address", "config_error", "Postfix"),
    ("rcpt", 450, "4.1.8 <a@shop.example>: Sender address rejected: Domain not found", "config_error", "Postfix"),
    ("rcpt", 550, "5.1.0 <a@b>: Sender address rejected: User unknown in virtual table", "config_error", "Postfix"),
    (
        "rcpt",
        550,
        "Verification failed for <a@shop.example>\nno such user\nSender verify failed",
        "config_error",
        "Exim",
    ),
    ("rcpt", 451, "Could not complete sender verify callout", "config_error", "Exim"),
    ("rcpt", 553, "5.5.4 <a>... Domain name required for sender address a", "config_error", "Sendmail"),
    ("end_of_data", 550, "5.1.8 Access denied, bad outbound sender AS(42004)", "config_error", "Exchange Online"),
    (
        "end_of_data",
        554,
        "5.2.252 SendAsDenied; a@shop.example not allowed to send as x",
        "config_error",
        "Exchange Online",
    ),
    ("end_of_data", 550, "5.7.60 Client does not have permissions to send as this sender", "config_error", "Exchange"),
    ("rcpt", 554, "Message rejected: Email address is not verified. The following", "config_error", "SES"),
    ("end_of_data", 554, "Access denied: User is not authorized to perform ses:SendRawEmail", "config_error", "SES"),
    ("rcpt", 550, "relay not permitted", "config_error", "Exim"),
    ("rcpt", 454, "4.7.1 <x@y>: Relay access denied", "config_error", "Postfix"),
    ("rcpt", 550, "Unable to relay for x@y", "config_error", "Exchange"),
    ("rcpt", 553, "sorry, that domain isn't in my list of allowed rcpthosts", "config_error", "qmail"),
    ("rcpt", 550, "SMTP AUTH is required for message submission", "config_error", "Exim"),
    ("rcpt", 550, "Must issue a STARTTLS command first", "config_error", "Gmail"),
    ("rcpt", 554, "Service unavailable; Client host [192.0.2.1] blocked using zen.example", "config_error", "Postfix"),
    ("rcpt", 450, "4.7.25 Client host rejected: cannot find your hostname", "config_error", "Postfix"),
    ("end_of_data", 554, "your IP is on our blacklist", "config_error", "widely used"),
    ("rcpt", 550, "5.4.5 Daily user sending limit exceeded", "config_error", "Gmail"),
    ("rcpt", 550, "5.2.2 Submission quota exceeded", "config_error", "Exchange"),
    ("end_of_data", 554, "Message rejected: Sending paused for this account", "config_error", "SES"),
    ("end_of_data", 454, "Throttling failure: Maximum sending rate exceeded", "later", "SES: passes by itself"),
    # We, by code
    ("rcpt", 550, "5.4.5 congestion", "config_error", "RFC 3463 §3.5"),
    ("rcpt", 550, "5.1.8 not from there", "config_error", "RFC 3463 §3.2: replied late"),
    ("rcpt", 550, "5.1.90 daily limit of recipients reached", "config_error", "Exchange Online"),
    ("rcpt", 550, "5.3.5 system incorrectly configured", "config_error", "RFC 3463 §3.4"),
    ("rcpt", 450, "4.7.23 SPF validation failed", "config_error", "RFC 7372 §3.2"),
    ("rcpt", 503, "5.5.1 bad sequence", "config_error", "RFC 3463 §3.6"),
    ("rcpt", 501, "5.5.4 unsupported option", "config_error", "RFC 3463 §3.6"),
    ("rcpt", 530, "go away", "config_error", "RFC 4954 §6"),
    ("end_of_data", 432, "4.3.2 sender thread limit exceeded", "later", "Exchange Online: no login is meant"),
    ("connect", 421, "4.7.1 Client host rejected: cannot find your reverse hostname", "config_error", "Postfix"),
    ("connect", 554, "no service for you", "config_error", "RFC 5321 §3.1"),
    ("connect", 521, "takes no mail", "config_error", "RFC 7504 §3: the wrong server, so not the message's fault"),
    ("ehlo", 550, "5.1.1 who are you?", "config_error", "RFC 5321 §4.1.1.1: no recipient was named yet"),
    ("tls", 501, "5.5.4 no", "config_error", "RFC 3207 §4"),
]


@pytest.mark.parametrize(("phase", "code", "text", "outcome", "source"), REPLIES)
def test_reply_classification(phase: Phase, code: int, text: str, outcome: Outcome, source: str):
    result = classify_reply(phase, code, text)

    assert (result.outcome, result.phase, result.code) == (outcome, phase, code), source


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.source)
def test_each_rule_decides_about_a_reply(rule: Rule):
    deciding = (
        find_rule(phase, code, enhanced_code(text), classify_reply(phase, code, text).reply)
        for phase, code, text, *_ in REPLIES
    )

    assert rule in deciding


@pytest.mark.parametrize("phase", ["connect", "tls", "ehlo", "auth", "mail", "rcpt", "data"])
def test_connection_lost_before_end_of_data_is_temporary(phase: Phase):
    assert connection_lost(phase, "Connection lost").outcome == "later"


def test_connection_lost_after_end_of_data_is_unknown():
    assert connection_lost("end_of_data", "Timed out").outcome == "unknown"


def test_reply_is_one_printable_line():
    text = "5.1.1 The account does not exist.\n5.1.1 Please check\x00 \x1b[31mthe\taddress.\n5.1.1  See https://x.test"

    reply = classify_reply("rcpt", 550, text).reply

    assert reply == "550 5.1.1 The account does not exist. Please check [31mthe address. See https://x.test"


def test_reply_without_enhanced_code_is_unchanged():
    assert classify_reply("rcpt", 550, "5.1 is no code; 5.1.1.1 neither").reply == "550 5.1 is no code; 5.1.1.1 neither"


def test_undecodable_bytes_do_not_reach_the_log():
    reply = classify_reply("rcpt", 550, b"gr\xfc\xdfe".decode("utf-8", "surrogateescape")).reply

    assert reply == "550 gr e"
    assert reply.encode()


def test_long_reply_is_truncated():
    reply = classify_reply("end_of_data", 554, "x" * 5000).reply

    assert len(reply) == MAX_REPLY_LENGTH
    assert reply.endswith("x…")


def test_secrets_repeated_by_a_server_are_masked():
    secrets = ("hunter2", "aHVudGVyMg==")

    assert classify_reply("auth", 535, "5.7.8 aHVudGVyMg== (hunter2)?", secrets=secrets).reply == "535 5.7.8 *** (***)?"
    assert "hunter2" not in connection_lost("auth", "no hunter2", secrets=secrets).reply
