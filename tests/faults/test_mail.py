"""A sender that dies at the worst moment, or loses its broker: no letter is lost, and none is sent for ever."""

import asyncio
import time
from datetime import timedelta
from functools import partial

import psycopg
import pytest

from consumers.mail import sender
from consumers.mail.delivery_log import LEASE
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from schemas.envelope import Envelope
from tests.fixtures.mail import Post, Row, Serving, wish
from tests.fixtures.smtp import SmtpServer, Step
from tests.fixtures.suite import Process, Program
from tests.support.proxy import Proxy
from tests.support.waiting import eventually


def start(pocketwatch: Program, smtp: SmtpServer, **changes: str) -> Process:
    """The group as a process of its own."""
    settings = {"SMTP_URL": smtp.url, "POCKETWATCH_MAIL_TIMEOUT": "2s"} | changes
    return pocketwatch.start("consume", "mail", **settings)


async def consuming(process: Process) -> None:
    """It is; without holding up what runs in this process."""
    await asyncio.to_thread(process.until, "consumers.started")


async def stuck(smtp: SmtpServer, step: Step) -> None:
    """A letter has come as far as this, and the server is silent."""

    async def is_there() -> bool:
        return not smtp.may_still(step)

    await eventually(is_there)


async def die_with(post: Post, asked: Envelope, consumer: Process) -> Row:
    """Kill a consumer that has a letter in hand, and return the letter's row."""
    row = await post.logged(asked, "sending")
    consumer.kill()
    return row


async def test_killed_in_the_middle_of_a_letter_it_is_sent_by_the_next_consumer(
    pocketwatch: Program, post: Post, smtp: SmtpServer
):
    smtp.stalls("data", times=1)
    first = start(pocketwatch, smtp)
    await consuming(first)
    asked = await post.ask(wish())
    await stuck(smtp, "data")
    await die_with(post, asked, first)

    await consuming(start(pocketwatch, smtp))
    row = await post.put_off(asked, "wait.1m")
    assert row["status"] == "sending"
    post.passes(LEASE)
    await post.ask(wish(), id_=asked.message_id)
    row = await post.logged(asked)

    assert (row["status"], row["doubts"]) == ("sent", 1)
    assert len(smtp.letters) == 1


async def test_killed_after_the_dot_it_is_sent_once_more_under_the_same_message_id_and_never_a_third_time(
    pocketwatch: Program, post: Post, smtp: SmtpServer
):
    asked = await post.ask(wish())
    for turn in (1, 2):
        smtp.stalls("dot", keeps=True, times=1)
        consumer = start(pocketwatch, smtp)
        await consuming(consumer)
        if turn > 1:
            await post.ask(wish(), id_=asked.message_id)
        await stuck(smtp, "dot")
        await die_with(post, asked, consumer)
        post.passes(LEASE)
    await consuming(start(pocketwatch, smtp))
    await post.ask(wish(), id_=asked.message_id)
    row = await post.logged(asked)

    assert (row["status"], row["doubts"], row["attempts"]) == ("unknown", 2, 2)
    assert row["error_message"] == "it may have been sent in each of 2 attempts, or never"
    assert [letter.message["Message-ID"] for letter in smtp.letters] == [row["external_id"]] * 2


async def test_a_letter_in_hand_is_finished_and_logged_when_the_broker_is_lost(
    pocketwatch: Program, post: Post, smtp: SmtpServer, proxy: Proxy, settings: Settings, publisher: Publisher
):
    smtp.stalls("rcpt", times=1)
    consumer = start(pocketwatch, smtp, RABBITMQ_URL=proxy.through(settings.rabbitmq_urls[0]))
    await consuming(consumer)
    asked = await post.ask(wish())
    await stuck(smtp, "rcpt")

    await proxy.cut()
    row = await post.logged(asked, "pending")
    await proxy.open()

    assert (row["doubts"], row["attempts"]) == (0, 1)
    assert "nothing heard" in row["reply"]
    await post.ask(wish(), id_=asked.message_id)
    assert (await post.logged(asked))["status"] == "sent"
    assert len(smtp.letters) == 1


async def test_a_letter_that_was_taken_while_the_broker_was_lost_is_sent(
    pocketwatch: Program, post: Post, smtp: SmtpServer, proxy: Proxy, settings: Settings, publisher: Publisher
):
    smtp.is_full(times=1)
    consumer = start(pocketwatch, smtp, RABBITMQ_URL=proxy.through(settings.rabbitmq_urls[0]))
    await consuming(consumer)
    asked = await post.ask(wish())
    await post.put_off(asked, "wait.5m")

    with psycopg.connect(post.database_url) as holding:
        holding.execute("SELECT FROM moderation_notification_logs FOR UPDATE")
        await post.ask(wish(), id_=asked.message_id)
        await eventually(partial(waits_for_a_row, post))
        await proxy.cut()
        await asyncio.to_thread(consumer.until, "broker.connection_lost")

    row = await post.logged(asked, "sent")
    await proxy.open()
    assert (row["doubts"], row["attempts"]) == (0, 2)


async def waits_for_a_row(post: Post) -> bool:
    """Somebody waits for what another one has locked."""
    return bool(
        post.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
    )


async def test_a_letter_that_was_sent_while_the_broker_was_lost_is_not_sent_again(
    pocketwatch: Program, post: Post, smtp: SmtpServer, proxy: Proxy, settings: Settings, publisher: Publisher
):
    consumer = start(pocketwatch, smtp, RABBITMQ_URL=proxy.through(settings.rabbitmq_urls[0]))
    await consuming(consumer)
    proxy.hold_upward()  # no acknowledgement arrives
    asked = await post.ask(wish())
    await asyncio.to_thread(consumer.until, "message.handled")
    await proxy.cut()
    proxy.thaw()
    await proxy.open()

    lines = await asyncio.to_thread(lambda: consumer.until("message.handled", count=2, within=30))

    assert [line["outcome"] for line in lines] == ["succeeded", "duplicate"]
    assert len(smtp.letters) == 1
    assert post.row(asked)["attempts"] == 1


async def test_told_to_stop_it_cuts_off_what_takes_too_long_and_says_so(
    pocketwatch: Program, post: Post, smtp: SmtpServer
):
    smtp.stalls("rcpt", times=1)
    consumer = start(pocketwatch, smtp, POCKETWATCH_GRACE="1s", POCKETWATCH_MAIL_TIMEOUT="50s")
    await consuming(consumer)
    asked = await post.ask(wish())
    await stuck(smtp, "rcpt")

    assert await asyncio.to_thread(consumer.stop) == 0

    row = post.row(asked)
    assert (row["status"], row["doubts"]) == ("pending", 0)
    await consuming(start(pocketwatch, smtp))
    assert (await post.logged(asked))["status"] == "sent"
    assert len(smtp.letters) == 1


async def test_a_sender_that_lives_says_so_for_as_long_as_a_letter_takes(
    post: Post, serving: Serving, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sender, "LEASE", timedelta(seconds=0.4))
    smtp.stalls("rcpt", times=1)

    async with serving():
        asked = await post.ask(wish())
        first = await post.logged(asked, "sending")

        async def later() -> bool:
            row = post.row(asked)
            return bool(row["status"] == "sending" and row["updated_at"] > first["updated_at"])

        await eventually(later, within=15)


async def test_while_the_database_is_away_a_letter_that_was_sent_is_not_forgotten(
    pocketwatch: Program, post: Post, smtp: SmtpServer
):
    smtp.stalls("rcpt", times=1)
    consumer = start(pocketwatch, smtp)
    await consuming(consumer)
    asked = await post.ask(wish())
    await stuck(smtp, "rcpt")

    end = time.monotonic() + 3  # until after the server has been waited for in vain
    while time.monotonic() < end:
        post.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'pocketwatch consume%%'"
        )
        await asyncio.sleep(0.1)

    row = await post.logged(asked, "pending")
    assert (row["doubts"], row["attempts"]) == (0, 1)


def test_without_a_mail_server_the_group_refuses_to_start(pocketwatch: Program):
    refused = pocketwatch("consume", "mail", SMTP_URL="")

    assert refused.returncode == 1
    assert "SMTP_URL is not set" in refused.stderr
    assert "Traceback" not in refused.stderr
