"""Senders that die, or lose the broker or the database: no email is lost, and none is sent forever."""

import asyncio
import time
from datetime import timedelta
from functools import partial

import psycopg
import pytest

from consumers.mail import sender
from consumers.mail.decisions import LEASE
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from schemas.envelope import Envelope
from tests.fixtures.mail import MailTester, Row, Serving, request_for
from tests.fixtures.smtp import SmtpServer, Step
from tests.fixtures.suite import Process, Program
from tests.support.proxy import Proxy
from tests.support.waiting import eventually


def start(pocketwatch: Program, smtp: SmtpServer, **changes: str) -> Process:
    """Start the group as a process."""
    settings = {"SMTP_URL": smtp.url, "POCKETWATCH_MAIL_TIMEOUT": "2s"} | changes
    return pocketwatch.start("consume", "mail", **settings)


async def consuming(process: Process) -> None:
    await asyncio.to_thread(process.until, "consumers.started")


async def stuck(smtp: SmtpServer, step: Step) -> None:
    """Wait until an email has reached this step, where the server stalls."""

    async def is_there() -> bool:
        return not smtp.has_fault(step)

    await eventually(is_there)


async def die_with(mail: MailTester, requested: Envelope, consumer: Process) -> Row:
    """Kill a consumer that is sending an email, and return the row of the email."""
    row = await mail.logged(requested, "sending")
    consumer.kill()
    return row


async def test_email_of_a_consumer_killed_before_the_end_is_sent_by_the_next(
    pocketwatch: Program, mail: MailTester, smtp: SmtpServer
):
    smtp.stalls("data", times=1)
    first = start(pocketwatch, smtp)
    await consuming(first)
    requested = await mail.publish(request_for())
    await stuck(smtp, "data")
    await die_with(mail, requested, first)

    await consuming(start(pocketwatch, smtp))
    row = await mail.deferred(requested, "wait.1m")
    assert row["status"] == "sending"
    mail.advance_clock(LEASE)
    await mail.publish(request_for(), id_=requested.message_id)
    row = await mail.logged(requested)

    assert (row["status"], row["doubts"]) == ("sent", 1)
    assert len(smtp.emails) == 1


async def test_email_of_a_consumer_killed_after_the_end_is_sent_at_most_twice(
    pocketwatch: Program, mail: MailTester, smtp: SmtpServer
):
    requested = await mail.publish(request_for())
    for turn in (1, 2):
        smtp.stalls("end_of_data", accepts=True, times=1)
        consumer = start(pocketwatch, smtp)
        await consuming(consumer)
        if turn > 1:
            await mail.publish(request_for(), id_=requested.message_id)
        await stuck(smtp, "end_of_data")
        await die_with(mail, requested, consumer)
        mail.advance_clock(LEASE)
    await consuming(start(pocketwatch, smtp))
    await mail.publish(request_for(), id_=requested.message_id)
    row = await mail.logged(requested)

    assert (row["status"], row["doubts"], row["attempts"]) == ("unknown", 2, 2)
    assert row["error_message"] == "delivery unconfirmed after 2 attempts"
    assert [email.message["Message-ID"] for email in smtp.emails] == [row["external_id"]] * 2


async def test_email_in_flight_is_completed_and_logged_when_the_broker_is_lost(
    pocketwatch: Program, mail: MailTester, smtp: SmtpServer, proxy: Proxy, settings: Settings, publisher: Publisher
):
    smtp.stalls("rcpt", times=1)
    consumer = start(pocketwatch, smtp, RABBITMQ_URL=proxy.through(settings.rabbitmq_urls[0]))
    await consuming(consumer)
    requested = await mail.publish(request_for())
    await stuck(smtp, "rcpt")

    await proxy.cut()
    row = await mail.logged(requested, "pending")
    await proxy.open()

    assert (row["doubts"], row["attempts"]) == (0, 1)
    assert "Timed out" in row["reply"]
    await mail.publish(request_for(), id_=requested.message_id)
    assert (await mail.logged(requested))["status"] == "sent"
    assert len(smtp.emails) == 1


async def test_email_claimed_while_the_broker_is_lost_is_sent(
    pocketwatch: Program, mail: MailTester, smtp: SmtpServer, proxy: Proxy, settings: Settings, publisher: Publisher
):
    smtp.is_full(times=1)
    consumer = start(pocketwatch, smtp, RABBITMQ_URL=proxy.through(settings.rabbitmq_urls[0]))
    await consuming(consumer)
    requested = await mail.publish(request_for())
    await mail.deferred(requested, "wait.5m")

    with psycopg.connect(mail.database_url) as holding:
        holding.execute("SELECT FROM moderation_notification_logs FOR UPDATE")
        await mail.publish(request_for(), id_=requested.message_id)
        await eventually(partial(waits_for_a_row, mail))
        await proxy.cut()
        await asyncio.to_thread(consumer.until, "broker.connection_lost")

    row = await mail.logged(requested, "sent")
    await proxy.open()
    assert (row["doubts"], row["attempts"]) == (0, 2)


async def waits_for_a_row(mail: MailTester) -> bool:
    """A session waits for a lock."""
    return bool(
        mail.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    )


async def test_email_sent_while_the_broker_is_lost_is_not_sent_again(
    pocketwatch: Program, mail: MailTester, smtp: SmtpServer, proxy: Proxy, settings: Settings, publisher: Publisher
):
    changes = {"RABBITMQ_URL": proxy.through(settings.rabbitmq_urls[0]), "POCKETWATCH_LOG_LEVEL": "DEBUG"}
    consumer = start(pocketwatch, smtp, **changes)
    await consuming(consumer)
    proxy.hold_upward()  # no acknowledgement arrives
    requested = await mail.publish(request_for())
    await asyncio.to_thread(consumer.until, "message.handled")
    await proxy.cut()
    proxy.thaw()
    await proxy.open()

    lines = await asyncio.to_thread(lambda: consumer.until("message.handled", count=2, within=30))

    assert [line["outcome"] for line in lines] == ["succeeded", "duplicate"]
    assert len(smtp.emails) == 1
    assert mail.row(requested)["attempts"] == 1


async def test_shutdown_cuts_off_slow_emails_and_releases_them(
    pocketwatch: Program, mail: MailTester, smtp: SmtpServer
):
    smtp.stalls("rcpt", times=1)
    consumer = start(pocketwatch, smtp, POCKETWATCH_GRACE="1s", POCKETWATCH_MAIL_TIMEOUT="50s")
    await consuming(consumer)
    requested = await mail.publish(request_for())
    await stuck(smtp, "rcpt")

    assert await asyncio.to_thread(consumer.stop) == 0

    row = mail.row(requested)
    assert (row["status"], row["doubts"]) == ("pending", 0)
    await consuming(start(pocketwatch, smtp))
    assert (await mail.logged(requested))["status"] == "sent"
    assert len(smtp.emails) == 1


async def test_lease_is_renewed_while_an_email_is_sent(
    mail: MailTester, serving: Serving, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sender, "LEASE", timedelta(seconds=0.4))
    smtp.stalls("rcpt", times=1)

    async with serving():
        requested = await mail.publish(request_for())
        first = await mail.logged(requested, "sending")

        async def later() -> bool:
            row = mail.row(requested)
            return bool(row["status"] == "sending" and row["updated_at"] > first["updated_at"])

        await eventually(later, within=15)


async def test_result_is_logged_after_a_database_outage(pocketwatch: Program, mail: MailTester, smtp: SmtpServer):
    smtp.stalls("rcpt", times=1)
    consumer = start(pocketwatch, smtp)
    await consuming(consumer)
    requested = await mail.publish(request_for())
    await stuck(smtp, "rcpt")

    end = time.monotonic() + 3  # until after the server has been waited for in vain
    while time.monotonic() < end:
        mail.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'pocketwatch consume%%'"
        )
        await asyncio.sleep(0.1)

    row = await mail.logged(requested, "pending")
    assert (row["doubts"], row["attempts"]) == (0, 1)


def test_group_refuses_to_start_without_a_mail_server(pocketwatch: Program):
    refused = pocketwatch("consume", "mail", SMTP_URL="")

    assert refused.returncode == 1
    assert "SMTP_URL is not set" in refused.stderr
    assert "Traceback" not in refused.stderr
