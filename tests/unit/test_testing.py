"""The test kit: handlers of events are tested without a server."""

import inspect
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumers.app import consumers_of
from consumers.mail.unsubscribe import unsubscribe
from consumers.moderation.notices import queries
from consumers.moderation.notices.requested import add_notification
from pocketwatch.errors import Reject
from pocketwatch.testing import deliver
from schemas.mail import MailUnsubscribed
from schemas.moderation import NotificationRequested
from schemas.ticks import CleanTokens
from tests.support import ledger

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"
OWNERS = {ledger.OWNER: {1: {"id": 1}}}


async def test_manager_gets_a_notification():
    asked = NotificationRequested(manager_id=7, action="ad_flagged", title="Ad 3", message="look")
    found = {queries.STAFF: {7: {"id": 7, "is_active": True, "is_staff": True}}}

    done = await deliver(add_notification, asked, found=found)

    (notification, _) = done.rows
    assert notification[1]["title"] == "Ad 3"
    assert (done.status, done.statistics, done.published) == ("succeeded", {"notifications": 1}, [])


def test_example_of_the_guide_is_the_test_above():
    assert inspect.getsource(test_manager_gets_a_notification) in CONTRIBUTING.read_text(encoding="utf-8")


async def test_handler_says_what_to_write_and_to_publish():
    now = datetime(2026, 3, 1, tzinfo=UTC)

    done = await deliver(ledger.note, ledger.Event(n=1), found=OWNERS, now=now, message_id="one")

    assert done.rows == [(ledger.ledger, {"message_id": "one", "n": 1, "word": "word", "owner": 1})]
    assert done.published == [("test.noted", {"n": 1})]
    assert (done.status, done.reason, done.statistics) == ("succeeded", None, {"noted": 1})


async def test_skipped_message_writes_nothing():
    done = await deliver(ledger.note, ledger.Event(do="skip"))

    assert (done.status, done.reason, done.rows) == ("skipped", "there is nothing to do", [])


async def test_metadata_is_that_of_the_test():
    done = await deliver(ledger.note, ledger.Event(fails_until=1), attempt=2)

    assert done.status == "succeeded"


async def test_what_the_handler_raises_is_raised():
    with pytest.raises(Reject, match="this cannot help"):
        await deliver(ledger.note, ledger.Event(do="reject"))
    with pytest.raises(Reject, match="POCKETWATCH_WEB_TOKEN_SECRET is not set"):
        await deliver(unsubscribe, MailUnsubscribed(token="x"))


async def test_job_and_foreign_message_are_refused():
    (tokens,) = (each for each in consumers_of(["cleanup"]) if each.queue.name == "cleanup.tokens")

    with pytest.raises(TypeError, match=r"cleanup.tokens is a job: it needs a database"):
        await deliver(tokens, CleanTokens())
    with pytest.raises(TypeError, match=r"test.ledger takes Event, not CleanTokens"):
        await deliver(ledger.note, CleanTokens())
