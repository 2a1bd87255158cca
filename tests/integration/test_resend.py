"""Emails that operators send again, and addresses that they suppress."""

import asyncio
from datetime import UTC, datetime

import pytest

from consumers.mail import operations
from consumers.mail.log_search import LogFilter
from consumers.mail.operations import next_key
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage.database import Database
from tests.fixtures.mail import MANAGER, RECIPIENT, MailTester, Row, Serving, flagged, request_for
from tests.fixtures.smtp import SmtpServer
from tests.fixtures.suite import Program, Runs
from tests.support.waiting import eventually

WHO = {"actor": "olena", "source": "web"}


def test_successor_of_a_key_is_always_the_same():
    assert next_key("a:b") == "a:b#resend-1"
    assert next_key("a:b#resend-1") == "a:b#resend-2"
    assert len(next_key("k" * 600)) == 600
    assert next_key("line\nbreak#resend-9") == "line\nbreak#resend-10"


async def resend(database: Database, id_: int) -> str:
    async with database.begin() as connection:
        return await operations.resend(connection, id_, reason="the mailbox works again", **WHO)


async def row_of(mail: MailTester, key: str, *statuses: str) -> Row:
    async def look() -> Row | None:
        return next((row for row in mail.log() if row["key"] == key and row["status"] in statuses), None)

    return await eventually(look)


@pytest.fixture
async def refused(mail: MailTester, serving: Serving, smtp: SmtpServer):
    """An email that the server has refused."""
    smtp.replies("end_of_data", "554 5.6.0 what is this?", times=1)
    async with serving():
        return await mail.logged(await mail.publish(request_for(locale="en")))


async def test_refused_email_is_sent_again_as_another_one(
    mail: MailTester, serving: Serving, smtp: SmtpServer, database: Database, relay: None, refused
):
    key = await resend(database, refused["id"])
    async with serving():
        again = await row_of(mail, key, "sent")

    (action,) = mail.sql("SELECT * FROM operator_actions")
    assert refused["status"] == "failed"
    assert key == next_key(refused["key"])
    assert again["external_id"] != refused["external_id"]
    assert (again["recipient"], again["locale"], again["letter"]) == (RECIPIENT, "en", "ad_approved")
    assert len(smtp.emails) == 1
    assert (action["actor"], action["source"], action["action"]) == ("olena", "web", "email.resend")
    assert (action["target"], action["reason"]) == (refused["key"], "the mailbox works again")
    assert action["after"] == {"key": key}


async def deliveries(runs: Runs) -> list[str] | None:
    """Return how the two requests for the same email ended, when both have."""
    statuses = [row["status"] for row in await runs.newest(job="mail.delivery", status=None, limit=2)]
    return statuses if {"partial", "running"}.isdisjoint(statuses) else None


async def test_two_operators_at_once_send_one_email(
    mail: MailTester, serving: Serving, smtp: SmtpServer, database: Database, runs: Runs, relay: None, refused
):
    keys = await asyncio.gather(resend(database, refused["id"]), resend(database, refused["id"]))
    async with serving():
        await row_of(mail, keys[0], "sent")
        both = await eventually(lambda: deliveries(runs))

    assert keys[0] == keys[1]
    assert sorted(both) == ["skipped", "succeeded"]
    assert len(smtp.emails) == 1


async def test_email_that_was_sent_again_has_one_successor(
    mail: MailTester, serving: Serving, database: Database, relay: None, refused
):
    key = await resend(database, refused["id"])
    async with serving():
        again = await row_of(mail, key, "sent")

    with pytest.raises(PocketwatchError, match=f"sent again before, as email {again['id']}"):
        await resend(database, refused["id"])
    assert await resend(database, again["id"]) == next_key(key)


async def test_email_whose_content_is_unknown_is_not_sent_again(mail: MailTester, database: Database, refused):
    mail.sql("UPDATE moderation_notification_logs SET request = NULL")

    with pytest.raises(PocketwatchError, match="before the suite kept the content"):
        await resend(database, refused["id"])
    with pytest.raises(PocketwatchError, match="email 99999999 does not exist"):
        await resend(database, 99_999_999)


async def test_email_on_its_way_is_not_sent_again(mail: MailTester, serving: Serving, smtp: SmtpServer, database):
    smtp.replies("end_of_data", "452 4.3.1 later")
    async with serving():
        row = await mail.deferred(await mail.publish(request_for()), "wait.5m")

    with pytest.raises(PocketwatchError, match="pending: it is still going to be sent"):
        await resend(database, row["id"])


async def test_expired_email_is_worth_sending_when_an_operator_sends_it(
    mail: MailTester, serving: Serving, smtp: SmtpServer, database: Database, relay: None
):
    async with serving():
        row = await mail.logged(await mail.publish(request_for(expires_at=datetime(2026, 1, 1, tzinfo=UTC))))
        again = await row_of(mail, await resend(database, row["id"]), "sent")

    assert row["status"] == "expired"
    assert again["status"] == "sent"


async def test_all_failed_are_sent_again_once(mail: MailTester, serving: Serving, smtp: SmtpServer, pocketwatch, relay):
    smtp.replies("end_of_data", "554 5.6.0 what is this?", times=2)
    async with serving():
        for to in ("one@example.com", "two@example.com"):
            await mail.logged(await mail.publish(request_for(to=to)), "failed")
        await mail.logged(await mail.publish(request_for(to="three@example.com")), "sent")

        done = pocketwatch.json("mail", "resend", "--status", "failed", "--author", "olena")
        for key in done["resent"].values():
            await row_of(mail, key, "sent")
        repeated = pocketwatch("mail", "resend", "--status", "failed", "--json")

    assert len(done["resent"]) == 2
    assert repeated.returncode == 1
    assert "sent again before" in repeated.stdout
    assert sorted(to for email in smtp.emails for to in email.recipients) == [
        "one@example.com",
        "three@example.com",
        "two@example.com",
    ]


async def test_states_on_the_way_cannot_be_chosen(database: Database):
    async with database.begin() as connection:
        for states in ((), ("sent",), ("failed", "pending")):
            with pytest.raises(PocketwatchError, match="use failed, unknown, suppressed, expired"):
                await operations.resend_matching(connection, LogFilter(states=states), **WHO)


async def test_held_email_is_shown_as_such(mail: MailTester, serving: Serving, pocketwatch: Program):
    async with serving(digest_above=1):
        await mail.logged(await mail.publish(request_for(flagged(1), to=MANAGER)), "sent")
        await mail.logged(await mail.publish(request_for(flagged(2), to=MANAGER)), "pending")

    held = pocketwatch.json("notices", "--status", "held")
    of_the_ad = pocketwatch.json("notices", "--ad", "2", "--recipient", "MANAGER@", "--kind", "manager_ad_flagged")

    assert [(row["ad_id"], row["about"], row["status"]) for row in held] == [(2, "Lada 2", "pending")]
    assert [row["id"] for row in of_the_ad] == [held[0]["id"]]


def test_suppressed_address_is_recorded_with_its_reason(mail: MailTester, pocketwatch: Program):
    done = pocketwatch("mail", "suppress", "Reader@Example.com", "--reason", "asked by phone", "--author", "olena")
    again = pocketwatch("mail", "suppress", "reader@example.com", "--reason", "twice")
    wrong = pocketwatch("mail", "suppress", "no address", "--reason", "x")
    pocketwatch("mail", "forget", "reader@example.com", "--reason", "a mistake", "--author", "petro")

    actions = mail.sql("SELECT * FROM operator_actions ORDER BY id")
    assert done.returncode == 0
    assert "suppressed already" in again.stderr
    assert "is not an email address" in wrong.stderr
    assert [(row["action"], row["actor"], row["target"], row["reason"]) for row in actions] == [
        ("email.suppress", "olena", "reader@example.com", "asked by phone"),
        ("email.unsuppress", "petro", "reader@example.com", "a mistake"),
    ]
    assert mail.suppressed() == {}
