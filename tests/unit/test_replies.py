"""What each reply of a mail server means for a letter, with the source that says so."""

import pytest

from pocketwatch.smtp.replies import (
    LONGEST,
    Outcome,
    Phase,
    judge,
    lost,
)

DOMAIN = "the project's facts on e-mail"

REPLIES: list[tuple[Phase, int, str, Outcome, str]] = [
    ("dot", 250, "2.0.0 queued as 1", "sent", "RFC 5321 §4.2.1: positive completion"),
    ("dot", 251, "will forward", "sent", "RFC 5321 §4.2.1: by the first digit"),
    # Temporary
    ("connect", 421, "4.3.2 too busy", "later", "RFC 5321 §4.2.3"),
    ("mail", 421, "4.4.2 idle for too long", "later", "RFC 5321 §4.2.3"),
    ("mail", 451, "4.3.0 try again", "later", "RFC 5321 §4.2.3"),
    ("rcpt", 450, "4.2.0 mailbox busy", "later", "RFC 5321 §4.2.3"),
    ("rcpt", 451, "4.7.1 greylisted", "later", "RFC 6647 §2: greylisting"),
    ("rcpt", 452, "4.5.3 too many recipients", "later", "RFC 5321 §4.5.3.1.10"),
    ("rcpt", 450, "4.7.28 rate limited", "later", f"RFC 3463 §3.8, {DOMAIN}: throttling"),
    ("rcpt", 450, "5.1.1 not known yet", "later", "RFC 5321 §4.2.1: the first digit of the reply decides"),
    ("dot", 452, "4.3.1 no room", "later", "RFC 5321 §4.2.3"),
    ("dot", 421, "4.3.2 shutting down", "later", "RFC 5321 §4.2.3: not accepted, as it says so"),
    ("dot", 550, "4.4.7 expired", "later", f"{DOMAIN}: every 4.x.x"),
    ("rcpt", 552, "too many recipients", "later", "RFC 5321 §4.5.3.1.10: old servers, to be treated as 452"),
    ("rcpt", 552, "5.2.2 mailbox full", "later", f"RFC 3463 §3.3, {DOMAIN}"),
    ("dot", 552, "5.2.2 mailbox full", "later", f"RFC 3463 §3.3, {DOMAIN}"),
    ("rcpt", 550, "5.2.2 mailbox full", "later", f"RFC 3463 §3.3, {DOMAIN}"),
    ("login", 454, "4.7.0 temporary failure", "later", "RFC 4954 §4.7.0"),
    ("tls", 454, "4.7.0 TLS not available now", "later", "RFC 3207 §4"),
    ("mail", 999, "what?", "later", f"{DOMAIN}: unknown first digit"),
    ("rcpt", -1, "Malformed SMTP response line", "later", f"{DOMAIN}: unknown first digit"),
    ("data", 250, "ok?", "later", "RFC 5321 §4.3.2: DATA is answered with 354"),
    ("dot", -1, "Malformed SMTP response line", "unknown", "whatever it said, it had the whole letter"),
    ("dot", 354, "go on", "unknown", "whatever it said, it had the whole letter"),
    # Permanent, for this letter
    ("rcpt", 550, "no such user", "refused", "RFC 5321 §4.2.3: also for policy, so nobody is suppressed for it"),
    ("rcpt", 551, "5.1.6 has moved", "refused", "RFC 5321 §4.2.3"),
    ("rcpt", 553, "name not allowed", "refused", "RFC 5321 §4.2.3"),
    ("rcpt", 556, "5.1.9 domain takes no mail", "refused", "RFC 7504 §4"),
    ("rcpt", 552, "5.3.4 message too big", "refused", "RFC 1870 §6.1: said at RCPT"),
    ("mail", 552, "5.3.4 message too big", "refused", "RFC 1870 §6.1"),
    ("mail", 552, "too much", "refused", "RFC 1870 §6.1"),
    ("data", 554, "5.5.1 no valid recipients", "refused", "RFC 5321 §3.3"),
    ("dot", 552, "5.3.4 message too big", "refused", "RFC 1870 §6.3"),
    ("dot", 552, "exceeded storage", "refused", "RFC 5321 §4.2.3"),
    ("dot", 554, "transaction failed", "refused", "RFC 5321 §4.2.3"),
    ("dot", 541, "looks like spam", "refused", DOMAIN),
    ("dot", 550, "5.6.0 broken MIME", "refused", "RFC 3463 §3.7"),
    ("rcpt", 502, "not implemented", "refused", DOMAIN),
    # Permanent, for this address
    ("rcpt", 550, "5.1.1 no such user", "bad_address", "RFC 3463 §3.2"),
    ("rcpt", 550, "5.1.2 no such domain", "bad_address", "RFC 3463 §3.2"),
    ("rcpt", 501, "5.1.3 bad syntax", "bad_address", "RFC 3463 §3.2"),
    ("rcpt", 556, "5.1.10 null MX", "bad_address", "RFC 7505 §4.2"),
    ("rcpt", 550, "5.2.1 mailbox disabled", "bad_address", "RFC 3463 §3.3"),
    ("dot", 550, "5.1.1 no such user", "bad_address", "RFC 3463 §3.2: the letter has one recipient"),
    # Ours
    ("mail", 550, "5.1.1 unknown sender", "ours", "RFC 5321 §3.3: MAIL is about the sender"),
    ("mail", 553, "5.1.8 bad sender domain", "ours", "RFC 3463 §3.2"),
    ("mail", 501, "5.5.4 bad parameter", "ours", "RFC 5321 §4.2.3"),
    ("rcpt", 550, "5.1.8 sender domain not found", "ours", "RFC 3463 §3.2: told late"),
    ("rcpt", 553, "5.1.7 bad sender", "ours", "RFC 3463 §3.2: told late"),
    ("mail", 530, "5.7.0 authentication required", "ours", "RFC 4954 §6"),
    ("mail", 530, "authentication required", "ours", "RFC 4954 §6"),
    ("mail", 530, "5.7.0 must issue STARTTLS first", "ours", "RFC 3207 §4"),
    ("login", 535, "5.7.8 credentials invalid", "ours", "RFC 4954 §6"),
    ("login", 534, "5.7.9 mechanism too weak", "ours", "RFC 4954 §6"),
    ("login", 538, "5.7.11 encryption required", "ours", "RFC 4954 §6"),
    ("login", 432, "4.7.12 password transition needed", "ours", "RFC 4954 §6: waiting does not help"),
    ("rcpt", 550, "5.7.1 relaying denied", "ours", f"RFC 3463 §3.8, {DOMAIN}"),
    ("dot", 550, "5.7.1 refused by policy", "ours", f"RFC 3463 §3.8, {DOMAIN}"),
    ("dot", 550, "5.7.515 Access denied", "ours", f"{DOMAIN}: Outlook's bulk rules"),
    ("connect", 554, "no service for you", "ours", "RFC 5321 §3.1"),
    ("connect", 521, "takes no mail", "ours", "RFC 7504 §3: the wrong server, so no letter's fault"),
    ("hello", 550, "5.1.1 who are you?", "ours", "RFC 5321 §4.1.1.1: no recipient was named yet"),
    ("tls", 501, "5.5.4 no", "ours", "RFC 3207 §4"),
]


@pytest.mark.parametrize(("phase", "code", "text", "outcome", "source"), REPLIES)
def test_a_reply_means_what_its_source_says(phase: Phase, code: int, text: str, outcome: Outcome, source: str):
    fate = judge(phase, code, text)

    assert (fate.outcome, fate.phase, fate.code) == (outcome, phase, code), source


@pytest.mark.parametrize("phase", ["connect", "tls", "hello", "login", "mail", "rcpt", "data"])
def test_a_letter_that_was_lost_before_its_end_is_tried_again(phase: Phase):
    assert lost(phase, "Connection lost").outcome == "later"


def test_of_a_letter_that_was_lost_after_its_end_nothing_is_known():
    assert lost("dot", "Timed out").outcome == "unknown"


def test_the_servers_words_are_kept_on_one_line():
    text = "5.1.1 The account does not exist.\n5.1.1 Please check\x00 \x1b[31mthe\taddress.\n5.1.1  See https://x.test"

    reply = judge("rcpt", 550, text).reply

    assert reply == "550 5.1.1 The account does not exist. Please check [31mthe address. See https://x.test"


def test_a_reply_without_an_enhanced_code_is_kept_as_it_is():
    assert judge("rcpt", 550, "5.1 is no code; 5.1.1.1 neither").reply == "550 5.1 is no code; 5.1.1.1 neither"


def test_half_characters_of_foreign_encodings_do_not_reach_the_log():
    reply = judge("rcpt", 550, b"gr\xfc\xdfe".decode("utf-8", "surrogateescape")).reply

    assert reply == "550 gr e"
    assert reply.encode()


def test_a_long_reply_is_cut():
    reply = judge("dot", 554, "x" * 5000).reply

    assert len(reply) == LONGEST
    assert reply.endswith("x…")


def test_secrets_that_a_server_repeats_are_hidden():
    secrets = ("hunter2", "aHVudGVyMg==")

    assert judge("login", 535, "5.7.8 aHVudGVyMg== (hunter2)?", secrets=secrets).reply == "535 5.7.8 *** (***)?"
    assert "hunter2" not in lost("login", "no hunter2", secrets=secrets).reply
