"""mail.delivery: from a message on the broker to an email at the mail server, and its row in the log."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from consumers.mail.decisions import LEASE, RETRY_FOR
from consumers.mail.sender import EmailSender
from pocketwatch.settings import Settings
from pocketwatch.smtp.pool import SmtpPool
from pocketwatch.smtp.rate_limit import RateLimits
from schemas.emails import PlainEmail
from schemas.mail import MailRequested
from schemas.message import Message
from tests.fixtures.mail import RECIPIENT, MailTester, Serving, approved, critical, flagged, request_for
from tests.fixtures.smtp import SmtpServer, Step
from tests.support.waiting import eventually

JOB = "mail.delivery"


async def test_email_is_sent_and_logged(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving():
        requested = await mail.publish(request_for(locale="en"))
        row = await mail.logged(requested, "sent")
        run = await mail.runs.over(requested.message_id)

    (email,) = smtp.emails
    assert email.recipients == (RECIPIENT,)
    assert email.sender == "noreply@localhost.localdomain"
    assert "Lada Niva" in email.message["Subject"]
    assert email.message["Message-ID"] == row["external_id"]
    assert (row["method"], row["recipient"], row["letter"], row["locale"]) == ("email", RECIPIENT, "ad_approved", "en")
    assert (row["attempts"], row["doubts"], row["error_message"]) == (1, 0, "")
    assert row["reply"].startswith("250 2.0.0 queued")
    assert row["key"] == f"{requested.message_id}:{RECIPIENT}:email"
    assert row["delivered_at"] is None
    assert abs(row["sent_at"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert run["status"] == "succeeded"
    assert run["statistics"] == {"letter": "ad_approved", "log": row["id"], "letter_status": "sent"}


async def test_row_of_a_notice_is_reused(mail: MailTester, serving: Serving, smtp: SmtpServer):
    mail.sql(
        "INSERT INTO moderation_notification_logs "
        "(method, recipient, status, error_message, sent_at, external_id, key) "
        "VALUES ('email', 'reader@example.com', 'pending', '', now(), '', 'notice-1:reader@example.com:email')"
    )

    async with serving():
        await mail.runs.over((await mail.publish(request_for(key="notice-1:reader@example.com:email"))).message_id)

    (row,) = mail.log()
    assert (row["status"], row["attempts"]) == ("sent", 1)
    assert len(smtp.emails) == 1


async def test_run_log_contains_no_address(mail: MailTester, serving: Serving, smtp: SmtpServer):
    smtp.replies("rcpt", f"451 4.2.0 <{RECIPIENT}>: come back later")

    async with serving():
        requested = await mail.publish(request_for())
        run = await mail.runs.over(requested.message_id)

    assert run["error"] == "451 4.2.0 <…@example.com>: come back later"
    assert RECIPIENT not in str({**run, "message_id": ""})


async def test_duplicate_message_sends_one_email(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving():
        requested = await mail.publish(request_for())
        await mail.logged(requested, "sent")
        await mail.publish(request_for(), id_=requested.message_id)
        other = await mail.publish(request_for(key=f"{requested.message_id}:{RECIPIENT}:email"))
        run = await mail.runs.over(other.message_id)

    assert len(smtp.emails) == 1
    assert len(mail.log()) == 1
    assert (run["status"], run["error"]) == ("skipped", "already sent")


async def test_simultaneous_duplicates_send_one_email(mail: MailTester, serving: Serving, smtp: SmtpServer):
    requested = await mail.publish(request_for(), copies=20)

    async with serving():
        await mail.logged(requested, "sent")
        await mail.logged(await mail.publish(request_for()), "sent")

    assert len(smtp.emails) == 2


async def test_duplicates_on_two_consumers_send_one_email(mail: MailTester, serving: Serving, smtp: SmtpServer):
    smtp.stalls("rcpt", times=1)

    async with serving(), serving():
        requested = await mail.publish(request_for())
        await mail.logged(requested, "sending")
        await mail.publish(request_for(), id_=requested.message_id)
        row = await mail.deferred(requested, "wait.1m")

    assert row["status"] in {"sending", "pending"}
    assert row["attempts"] == 1
    assert smtp.emails == []


async def test_emails_share_transactions(mail: MailTester, serving: Serving, smtp: SmtpServer):
    for number in range(1, 101):
        await mail.publish(request_for(approved(ad_id=number)))

    async with serving():
        await mail.logged(await mail.publish(request_for()), "sent")
        await asyncio.sleep(0)

    async def sent() -> int:
        return sum(row["status"] == "sent" for row in mail.log())

    assert await sent() > 90
    (shared,) = mail.sql("SELECT count(DISTINCT xmin::text) AS n FROM moderation_notification_logs")
    assert shared["n"] < 60
    assert smtp.max_open <= 8


# Unwanted emails


async def test_suppressed_address_gets_no_email(mail: MailTester, serving: Serving, smtp: SmtpServer):
    mail.suppress(RECIPIENT)

    async with serving():
        requested = await mail.publish(request_for(to="Reader@example.com"))
        row = await mail.logged(requested)
        run = await mail.runs.over(requested.message_id)

    assert (row["status"], row["error_message"]) == ("suppressed", "address suppressed")
    assert (run["status"], run["error"]) == ("skipped", "address suppressed")
    assert smtp.emails == []


async def test_unsubscribed_owner_still_gets_emails_about_own_ads(mail: MailTester, serving: Serving, smtp: SmtpServer):
    mail.suppress(RECIPIENT, "subscribed")

    async with serving():
        row = await mail.logged(await mail.publish(request_for()))

    assert row["status"] == "sent"


async def test_user_with_disabled_email_gets_critical_emails_only(mail: MailTester, serving: Serving, smtp: SmtpServer):
    mail.set_preferences(11, channels='["info_table"]')

    async with serving():
        usual = await mail.logged(await mail.publish(request_for(user_id=11)))
        pressing = await mail.logged(await mail.publish(request_for(critical(), user_id=11)))
        others = await mail.logged(await mail.publish(request_for(user_id=12)))

    assert (usual["status"], usual["error_message"]) == ("suppressed", "recipient has disabled email")
    assert (pressing["status"], others["status"]) == ("sent", "sent")


async def test_only_critical_emails_are_sent_in_quiet_hours(mail: MailTester, serving: Serving, smtp: SmtpServer):
    now = datetime.now(UTC)
    begin, end = (now - timedelta(hours=2)).time(), (now + timedelta(hours=5)).time()
    mail.set_preferences(11, quiet_from=begin, quiet_until=end, timezone="UTC")

    async with serving():
        requested = await mail.publish(request_for(user_id=11))
        row = await mail.deferred(requested, "wait.30m")
        run = await mail.runs.over(requested.message_id)
        pressing = await mail.logged(await mail.publish(request_for(critical(), user_id=11)))

    assert (row["status"], row["attempts"]) == ("pending", 0)
    assert (run["status"], run["error"]) == ("skipped", "quiet hours of the recipient")
    assert pressing["status"] == "sent"


async def test_email_is_sent_after_quiet_hours(mail: MailTester, serving: Serving, smtp: SmtpServer):
    now = datetime.now(UTC)
    mail.set_preferences(11, quiet_from=(now - timedelta(hours=2)).time(), quiet_until=now.time(), timezone="UTC")

    async with serving():
        row = await mail.logged(await mail.publish(request_for(user_id=11)))

    assert row["status"] == "sent"


async def test_expired_email_is_not_sent(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving():
        requested = await mail.publish(request_for(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        row = await mail.logged(requested)

    assert (row["status"], row["error_message"]) == ("expired", "expired before it was sent")
    assert smtp.emails == []


async def test_lifetime_depends_on_the_kind_of_email(mail: MailTester, serving: Serving, smtp: SmtpServer):
    old = approved(occurred_at=datetime.now(UTC) - approved().lifetime)

    async with serving():
        row = await mail.logged(await mail.publish(request_for(old)))

    assert row["status"] == "expired"
    assert smtp.emails == []


# Server behaviour


async def test_retry_delays_grow_while_the_server_is_down(mail: MailTester, serving: Serving, smtp: SmtpServer):
    smtp.goes_down()
    seen = []

    async with serving():
        requested = await mail.publish(request_for())
        for queue in ("wait.5m", "wait.30m", "wait.2h"):
            row = await mail.deferred(requested, queue)
            seen.append((row["status"], row["attempts"]))
            await mail.publish(request_for(), id_=requested.message_id)
        await asyncio.sleep(0.3)
        smtp.comes_back()
    async with serving():
        await mail.publish(request_for(), id_=requested.message_id)
        row = await mail.logged(requested)

    assert seen == [("pending", 1), ("pending", 2), ("pending", 3)]
    assert row["status"] == "sent"
    assert len(smtp.emails) == 1
    assert await mail.queue_length(f"{JOB}.dead") == 0


async def test_greylisted_email_is_retried(mail: MailTester, serving: Serving, smtp: SmtpServer):
    smtp.greylists()

    async with serving():
        requested = await mail.publish(request_for())
        first = await mail.deferred(requested, "wait.5m")
        await mail.publish(request_for(), id_=requested.message_id)
        row = await mail.logged(requested)

    assert first["reply"] == "451 4.7.1 greylisted, try again later"
    assert (row["status"], row["attempts"]) == ("sent", 2)


async def test_email_deferred_for_three_days_has_failed(mail: MailTester, serving: Serving, smtp: SmtpServer):
    smtp.is_full()
    far = datetime.now(UTC) + timedelta(days=30)

    async with serving():
        requested = await mail.publish(request_for(expires_at=far))
        await mail.deferred(requested, "wait.5m")
        mail.advance_clock(timedelta(days=3))
        await mail.publish(request_for(expires_at=far), id_=requested.message_id)
        row = await mail.logged(requested)

    assert (row["status"], row["error_message"]) == ("failed", "not accepted in 1 attempts within 3 days")
    assert row["reply"] == "452 4.3.1 insufficient system storage"


async def test_lifetime_of_an_undated_email_starts_with_the_request(
    mail: MailTester, serving: Serving, smtp: SmtpServer
):
    smtp.is_full()
    undated = request_for(PlainEmail(subject="Hello", paragraphs=["by hand"]))

    async with serving():
        requested = await mail.publish(undated)
        await mail.deferred(requested, "wait.5m")
        mail.advance_clock(PlainEmail.lifetime)
        await mail.publish(undated, id_=requested.message_id)
        row = await mail.logged(requested)

    assert row["status"] == "expired"


async def test_bad_address_is_suppressed(mail: MailTester, serving: Serving, smtp: SmtpServer):
    smtp.rejects_recipients(times=1)

    async with serving():
        requested = await mail.publish(request_for())
        first = await mail.logged(requested)
        run = await mail.runs.over(requested.message_id)
        second = await mail.logged(await mail.publish(request_for()))

    assert (first["status"], first["reply"]) == ("failed", "550 5.1.1 no such user here")
    assert (run["status"], run["error"]) == ("partial", "550 5.1.1 no such user here")
    assert second["status"] == "suppressed"
    assert mail.suppressed() == {RECIPIENT: "all"}


async def test_refused_email_has_failed_without_suppressing_its_address(
    mail: MailTester, serving: Serving, smtp: SmtpServer
):
    smtp.replies("end_of_data", "554 5.6.0 what is this?", times=1)

    async with serving():
        row = await mail.logged(await mail.publish(request_for()))

    assert (row["status"], row["reply"]) == ("failed", "554 5.6.0 what is this?")
    assert mail.suppressed() == {}


@pytest.mark.parametrize(
    ("step", "reply"),
    [
        ("connect", "554 5.3.2 no SMTP service here"),
        ("rcpt", "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"),
        ("end_of_data", "550 5.7.1 message refused by policy"),
    ],
)
async def test_email_waits_without_an_attempt_while_the_server_refuses_us(
    mail: MailTester, serving: Serving, smtp: SmtpServer, step: Step, reply: str
):
    smtp.replies(step, reply, times=1)

    async with serving():
        requested = await mail.publish(request_for())
        row = await mail.deferred(requested, "wait.30m")
    async with serving():
        mail.advance_clock(RETRY_FOR)
        await mail.publish(request_for(), id_=requested.message_id)
        later = await mail.logged(requested)

    assert (row["status"], row["attempts"], row["reply"]) == ("pending", 0, reply)
    assert row["error_message"] == f"the mail server refuses us: {reply}"
    assert mail.suppressed() == {}
    assert (later["status"], later["attempts"]) == ("sent", 1)


async def test_attempts_before_a_refusal_do_not_count(mail: MailTester, serving: Serving, smtp: SmtpServer):
    smtp.greylists()

    async with serving():
        requested = await mail.publish(request_for())
        first = await mail.deferred(requested, "wait.5m")
        smtp.replies("rcpt", "550 relay not permitted", times=1)
        await mail.publish(request_for(), id_=requested.message_id)
        refused = await mail.deferred(requested, "wait.30m")
        mail.advance_clock(RETRY_FOR)
        await mail.publish(request_for(), id_=requested.message_id)
        row = await mail.logged(requested)

    assert (first["attempts"], refused["attempts"]) == (1, 0)
    assert row["status"] == "sent"


async def test_refusals_are_one_incident(
    mail: MailTester, serving: Serving, smtp: SmtpServer, log_lines: list[dict[str, Any]]
):
    smtp.replies("rcpt", f"550 <{RECIPIENT}>: relay not permitted")

    async def all_wait() -> bool:
        return await mail.queue_length("wait.30m") == 40

    def incident() -> list[dict[str, Any]]:
        events = {"smtp.config_error": "reply", "smtp.recovered": "refused"}
        return [
            {"event": line["event"], events[line["event"]]: line[events[line["event"]]]}
            for line in log_lines
            if line["event"] in events
        ]

    async with serving():
        for number in range(40):
            await mail.publish(request_for(to=f"reader{number}@example.com"))
        await eventually(all_wait)

    assert incident() == [{"event": "smtp.config_error", "reply": "550 <…@example.com>: relay not permitted"}]
    assert len([verb for _, verb in smtp.commands if verb == "RCPT"]) <= 16
    assert {(row["status"], row["attempts"]) for row in mail.log()} == {("pending", 0)}


async def test_refusals_end_when_emails_are_accepted_again(
    mail: MailTester, serving: Serving, smtp: SmtpServer, log_lines: list[dict[str, Any]]
):
    smtp.replies("rcpt", "550 relay not permitted", times=2)

    async with serving():
        refused = await mail.publish(request_for())
        await mail.deferred(refused, "wait.30m")
        smtp.rejects_recipients(times=1)
        unknown = await mail.logged(await mail.publish(request_for(to="unknown@example.com")))
        smtp.replies("rcpt", "550 relay not permitted", times=1)
        await mail.publish(request_for(), id_=refused.message_id)
        await eventually(lambda: two_wait(mail))
        for _ in range(3):
            await mail.logged(await mail.publish(request_for()), "sent")

    assert (unknown["status"], unknown["reply"]) == ("failed", "550 5.1.1 no such user here")
    events = [line for line in log_lines if line["event"].startswith("smtp.")]
    assert [line["event"] for line in events] == ["smtp.config_error", "smtp.recovered"]
    assert events[1]["refused"] == 2


async def two_wait(mail: MailTester) -> bool:
    return await mail.queue_length("wait.30m") == 2


async def test_rejection_for_an_unknown_reason_is_retried_for_three_days(
    mail: MailTester, serving: Serving, smtp: SmtpServer
):
    smtp.replies("rcpt", "550 Administrative prohibition")

    async with serving():
        requested = await mail.publish(request_for())
        first = await mail.deferred(requested, "wait.5m")
        mail.advance_clock(RETRY_FOR)
        await mail.publish(request_for(), id_=requested.message_id)
        row = await mail.logged(requested)

    assert (first["status"], first["attempts"]) == ("pending", 1)
    assert (row["status"], row["reply"]) == ("failed", "550 Administrative prohibition")


@pytest.mark.parametrize(
    ("ehlo", "name"), [(None, "localhost.localdomain"), ("mail.shop.example", "mail.shop.example")]
)
async def test_ehlo_name_is_the_setting_or_the_domain_of_the_sender(
    mail: MailTester, serving: Serving, smtp: SmtpServer, ehlo: str | None, name: str
):
    async with serving(ehlo=ehlo):
        await mail.logged(await mail.publish(request_for()), "sent")

    assert smtp.names == [name]


@pytest.mark.parametrize("accepts", [True, False])
async def test_unconfirmed_email_is_sent_once_more_under_the_same_message_id(
    mail: MailTester, serving: Serving, smtp: SmtpServer, *, accepts: bool
):
    smtp.disconnects_after_dot(accepts=accepts, times=1)

    async with serving():
        requested = await mail.publish(request_for())
        row = await mail.deferred(requested, "wait.5m")
        await mail.publish(request_for(), id_=requested.message_id)
        later = await mail.logged(requested, "sent")

    assert (row["status"], row["doubts"]) == ("unknown", 1)
    assert (later["attempts"], later["doubts"]) == (2, 1)
    assert len(smtp.emails) == (2 if accepts else 1)
    assert {email.message["Message-ID"] for email in smtp.emails} == {row["external_id"]}


async def test_email_unconfirmed_twice_stays_unknown(mail: MailTester, serving: Serving, smtp: SmtpServer):
    smtp.disconnects_after_dot(accepts=True)

    async with serving():
        requested = await mail.publish(request_for())
        await mail.deferred(requested, "wait.5m")
        await mail.publish(request_for(), id_=requested.message_id)
        await mail.logged(requested, "unknown")

        run = await mail.runs.over(requested.message_id)
        third = await mail.publish(request_for(key=mail.row(requested)["key"]))
        skipped = await mail.runs.over(third.message_id)

    assert (mail.row(requested)["status"], mail.row(requested)["doubts"]) == ("unknown", 2)
    assert run["status"] in {"partial", "skipped"}
    assert skipped["status"] == "skipped"
    assert len(smtp.emails) == 2


async def test_dead_sender_counts_as_an_unconfirmed_attempt(mail: MailTester, serving: Serving, smtp: SmtpServer):
    smtp.is_full(times=1)
    async with serving():
        requested = await mail.publish(request_for())
        await mail.deferred(requested, "wait.5m")
        mail.sql("UPDATE moderation_notification_logs SET status = 'sending', updated_at = now()")

        await mail.publish(request_for(), id_=requested.message_id)
        await mail.deferred(requested, "wait.1m")
        mail.advance_clock(LEASE)
        await mail.publish(request_for(), id_=requested.message_id)
        row = await mail.logged(requested)

    assert (row["status"], row["doubts"], row["attempts"]) == ("sent", 1, 2)


async def test_email_that_could_not_be_logged_counts_as_unconfirmed(
    mail: MailTester, serving: Serving, smtp: SmtpServer
):
    mail.sql(REFUSES_SENT)

    async with serving():
        requested = await mail.publish(request_for())
        first = await mail.deferred(requested, "wait.10s")
        mail.sql("DROP FUNCTION refuse_sent CASCADE")
        mail.advance_clock(LEASE)
        await mail.publish(request_for(), id_=requested.message_id)
        row = await mail.logged(requested)

    assert first["status"] == "sending"
    assert (row["status"], row["doubts"], row["attempts"]) == ("sent", 1, 2)
    assert {email.message["Message-ID"] for email in smtp.emails} == {row["external_id"]}


REFUSES_SENT = """
    CREATE FUNCTION refuse_sent() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'XX000'; END $$;
    CREATE TRIGGER refuse_sent BEFORE UPDATE ON moderation_notification_logs
    FOR EACH ROW WHEN (NEW.status = 'sent') EXECUTE FUNCTION refuse_sent()
"""


# Invalid emails


async def test_line_breaks_in_a_title_cannot_inject_headers(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving():
        await mail.logged(
            await mail.publish(request_for(approved(ad_title="Lada\r\nBcc: all@example.com\r\n\r\nwords")))
        )

    (email,) = smtp.emails
    assert "Lada Bcc: all@example.com words" in email.message["Subject"]
    assert email.message["Bcc"] is None
    assert email.recipients == (RECIPIENT,)


async def test_subject_with_line_breaks_is_rejected(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving():
        run = await mail.runs.over((await mail.publish(InvalidRequest(letter=INJECTION))).message_id)

    assert run["status"] == "rejected"
    assert smtp.emails == []


INJECTION = {
    "name": "plain",
    "occurred_at": "2026-11-21T12:00:00Z",
    "subject": "News\r\nBcc: all@example.com",
    "paragraphs": ["words"],
}


async def test_address_that_headers_cannot_hold_is_refused(settings: Settings):
    sender = EmailSender(
        settings,
        SmtpPool("smtp://127.0.0.1:1", local_hostname="site.test", limits=RateLimits(), timeout=timedelta(seconds=1)),
    )
    unchecked = MailRequested.model_construct(to="a\r\nb@example.com", letter=approved(), locale="uk")

    result = await sender.send(unchecked, "<id@example.com>")

    assert result.outcome == "refused"
    assert "control character" in result.reply


async def test_internationalized_domain_is_sent_in_punycode(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving():
        await mail.logged(await mail.publish(request_for(to="reader@пошта.example.com")), "sent")

    (email,) = smtp.emails
    assert email.recipients == ("reader@xn--80a1acn3a.example.com",)


async def test_invalid_message_is_rejected_alone(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving():
        good = [await mail.publish(request_for(approved(ad_id=number))) for number in range(1, 6)]
        bad = await mail.publish(InvalidRequest())
        more = [await mail.publish(request_for(approved(ad_id=number))) for number in range(1, 6)]
        for requested in good + more:
            await mail.logged(requested, "sent")
        run = await mail.runs.over(bad.message_id)

    assert run["status"] == "rejected"
    assert await mail.queue_length(f"{JOB}.dead") == 1


class InvalidRequest(Message):
    """Published like a request, with an invalid body."""

    exchange: ClassVar[str] = "mail"
    routing_key: ClassVar[str] = "mail.requested"

    to: str = "reader@example.com"
    letter: dict[str, Any] | None = None


async def test_email_with_an_unknown_notification_is_sent(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving():
        row = await mail.logged(await mail.publish(request_for(notification_id=4711)))

    assert (row["status"], row["notification_id"]) == ("sent", None)


async def test_template_error_is_retried_and_the_email_released(
    mail: MailTester, serving: Serving, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("consumers.mail.compose.rendering.EmailRenderer.render", _broken)

    async with serving():
        requested = await mail.publish(request_for())
        row = await mail.deferred(requested, "wait.10s")
        run = await mail.runs.over(requested.message_id)

    assert (row["status"], row["doubts"]) == ("pending", 0)
    assert row["error_message"] == run["error"] == "RuntimeError: undefined name"
    assert run["status"] == "failed"


def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("undefined name")


async def test_digest_threshold_applies_per_recipient(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving(digest_above=1):
        first = await mail.logged(await mail.publish(request_for(flagged(), to="one@example.com")))
        second = await mail.logged(await mail.publish(request_for(flagged(), to="two@example.com")))

    assert (first["status"], second["status"]) == ("sent", "sent")
