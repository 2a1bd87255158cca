"""The doctor asks the mail server whether it accepts emails from us, and sends none."""

import json

import pytest

from tests.fixtures.mail import MailTester, Serving, request_for
from tests.fixtures.smtp import SmtpServer, Step
from tests.fixtures.suite import Program
from tests.support.waiting import eventually

SENDER = {"POCKETWATCH_MAIL_FROM": "Shop <noreply@shop.example>"}


def findings(pocketwatch: Program, smtp: SmtpServer, subject: str = "mail", **changes: str) -> list[tuple[str, str]]:
    done = pocketwatch("doctor", "--json", **{"SMTP_URL": smtp.url, **SENDER, **changes})
    found = json.loads(done.stdout)
    return [(finding["result"], finding["detail"]) for finding in found if finding["subject"] == subject]


def test_session_is_opened_and_the_sender_accepted(pocketwatch: Program, smtp: SmtpServer):
    smtp.requires_login()

    found = findings(pocketwatch, smtp, POCKETWATCH_MAIL_EHLO="mail.shop.example")

    assert found == [("ok", f"127.0.0.1:{smtp.port} accepts noreply@shop.example from mail.shop.example")]
    assert smtp.verbs(1) == ["EHLO", "AUTH", "MAIL", "RSET", "QUIT"]
    assert smtp.names == ["mail.shop.example"]


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("connect", "554 5.7.1 no SMTP service for you"),
        ("helo", "550 5.7.1 who are you?"),
        ("auth", "535 5.7.8 authentication credentials invalid"),
        ("mail", "553 5.7.1 <noreply@shop.example>: Sender address rejected: not owned by user suite"),
    ],
)
def test_server_that_refuses_us_is_a_problem_in_its_own_words(
    pocketwatch: Program, smtp: SmtpServer, step: Step, reply: str
):
    smtp.requires_login()
    if step == "helo":
        smtp.replies("ehlo", "502 5.5.1 what?")
    smtp.replies(step, reply)

    (found,) = findings(pocketwatch, smtp)

    words = f"127.0.0.1:{smtp.port} refuses noreply@shop.example from shop.example: {reply}; emails wait"
    assert found == ("problem", words)


def test_busy_server_is_a_warning(pocketwatch: Program, smtp: SmtpServer):
    smtp.is_busy()

    found = findings(pocketwatch, smtp)

    assert found == [("warning", f"127.0.0.1:{smtp.port} is busy: 421 4.3.2 too busy, come back later; emails wait")]


async def test_emails_that_wait_because_of_a_refusal_are_a_problem(
    mail: MailTester, serving: Serving, smtp: SmtpServer, pocketwatch: Program
):
    smtp.replies("rcpt", "550 relay not permitted")

    async with serving():
        requested = await mail.publish(request_for())
        await mail.deferred(requested, "wait.30m")

    (waiting,) = findings(pocketwatch, smtp, "mail refused: mail server")
    words = "1 email waits because the mail server refuses the suite; its last reply: 550 relay not permitted; "
    assert waiting[0] == "problem"
    assert waiting[1].startswith(words)
    assert findings(pocketwatch, smtp, "emails") == [
        ("warning", "of the last day: 1 pending; see: pocketwatch notices --status pending")
    ]


async def test_email_that_could_not_be_sent_is_a_warning(
    mail: MailTester, serving: Serving, smtp: SmtpServer, pocketwatch: Program
):
    smtp.is_busy()

    async with serving():
        requested = await mail.publish(request_for())

        async def was_tried() -> bool:
            return any(row["error_message"] for row in mail.rows_of(requested))

        await eventually(was_tried)

    assert findings(pocketwatch, smtp, "emails") == [
        ("warning", "of the last day: 1 pending; see: pocketwatch notices --status pending")
    ]
