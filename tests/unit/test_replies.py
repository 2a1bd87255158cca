"""What each SMTP reply means for a message, with its source."""

import pytest

from pocketwatch.smtp.replies import (
    MAX_REPLY_LENGTH,
    Outcome,
    Phase,
    classify_reply,
    connection_lost,
)

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
    ("data", 554, "5.5.1 no valid recipients", "refused", "RFC 5321 §3.3"),
    ("end_of_data", 552, "5.3.4 message too big", "refused", "RFC 1870 §6.3"),
    ("end_of_data", 552, "exceeded storage", "refused", "RFC 5321 §4.2.3"),
    ("end_of_data", 554, "transaction failed", "refused", "RFC 5321 §4.2.3"),
    ("end_of_data", 541, "looks like spam", "refused", DOMAIN),
    ("end_of_data", 550, "5.6.0 broken MIME", "refused", "RFC 3463 §3.7"),
    ("rcpt", 502, "not implemented", "refused", DOMAIN),
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
    ("connect", 554, "no service for you", "config_error", "RFC 5321 §3.1"),
    ("connect", 521, "takes no mail", "config_error", "RFC 7504 §3: the wrong server, so not the message's fault"),
    ("ehlo", 550, "5.1.1 who are you?", "config_error", "RFC 5321 §4.1.1.1: no recipient was named yet"),
    ("tls", 501, "5.5.4 no", "config_error", "RFC 3207 §4"),
]


@pytest.mark.parametrize(("phase", "code", "text", "outcome", "source"), REPLIES)
def test_reply_classification(phase: Phase, code: int, text: str, outcome: Outcome, source: str):
    result = classify_reply(phase, code, text)

    assert (result.outcome, result.phase, result.code) == (outcome, phase, code), source


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
