"""The platform's models, forms and API accept every row of notices and of their log."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from typing import Any, get_args

import pytest

from consumers.bridge.tasks import create_moderation_notification_task
from consumers.moderation.notices import managers, owners, requested
from schemas.moderation import Action, AdStatus, NotificationRequested
from tests.fixtures.mail import MailTester, Serving, critical, flagged, request_for
from tests.fixtures.people import Market, People
from tests.fixtures.site import Site
from tests.fixtures.smtp import SmtpServer
from tests.fixtures.suite import Consume, Runs

ACTIONS = get_args(Action)
STATUSES: dict[str, AdStatus] = {"auto_approved": "active", "auto_rejected": "rejected", "user_banned": "blocked"}


@pytest.fixture
async def consuming(consume: Consume, people: People) -> AsyncIterator[None]:
    async with consume(managers.notify_managers, owners.notify_owner, requested.add_notification):
        yield


async def notify_all(market: Market, runs: Runs, people: People) -> list[dict[str, Any]]:
    """Publish a notice of every action to the owner and to managers; return those to managers."""
    owner = people.user("olha@example.com")
    ad = people.ad(owner)
    notices = [
        {"action": action, "status": STATUSES.get(action, "needs_review"), "ad_id": ad, "user_id": owner}
        for action in ACTIONS
    ]
    notices.append({"action": "created", "status": None, "ad_id": None, "user_id": None})
    for number, data in enumerate(notices):
        await market.owner("unknown", message_id=f"owner-{number}", **data)
        await market.managers("unknown", message_id=f"managers-{number}", data=data)
    for number in range(len(notices)):
        await runs.over(f"owner-{number}")
        await runs.over(f"managers-{number}")
    return notices


async def test_every_notice_is_what_the_site_would_have_stored(
    consuming: None, market: Market, runs: Runs, people: People, site: Site
):
    people.manager("both@example.com")
    people.manager("no address", email=False)
    people.manager("nonsense")
    people.manager("mail@example.com", table=False)
    people.user(staff=True)  # without settings
    people.user("not an address")

    notices = await notify_all(market, runs, people)

    unread = site.call("moderation.unread")
    assert len(unread) == site.call("moderation.own_consumer_rows", notices=notices) == 3 * len(notices)
    hidden = people.rows(
        "SELECT id FROM moderation_notification_logs WHERE notification_id IS NULL AND (key LIKE '%%:owner:%%' "
        "OR recipient = 'mail@example.com') ORDER BY id"
    )
    assert sorted(site.call("moderation.hidden_logs")) == [row["id"] for row in hidden]
    refused = site.call("moderation.refused_rows")
    assert [reason for reason in refused if "'notification': ['This field cannot be null.']" not in reason] == []
    assert len(refused) == len(hidden)
    assert site.call("moderation.mark_as_read", ids=unread) == len(unread)
    assert site.call("moderation.unread") == []
    assert len(people.owner_notices()) == len(ACTIONS) - 1  # all but "created"


async def test_every_outcome_of_an_email_is_a_status_of_the_site(
    mail: MailTester, serving: Serving, smtp: SmtpServer, people: People, site: Site
):
    manager = people.manager()
    people.execute(
        "INSERT INTO moderation_notifications (action, title, message, data, status, created_at, priority, manager_id) "
        "VALUES ('ad_flagged', 't', 'm', '{\"ad_id\": 1}', 'pending', now(), 5, %(manager)s)",
        manager=manager,
    )
    (notification,) = (notice["id"] for notice in people.notices())
    mail.suppress("suppressed@example.com")
    mail.set_preferences(11, quiet_from=time(0, 0), quiet_until=time(23, 59, 59), timezone="UTC")
    expected = {}

    async def becomes(state: str, to: str, email: Any = None, **values: Any) -> None:
        """Request an email of the notification, and wait for its state."""
        requested = await mail.publish(request_for(email, to=to, notification_id=notification, **values))
        await mail.logged(requested, state)
        await mail.runs.over(requested.message_id)
        expected[to] = state

    async with serving(digest_above=1):
        await becomes("sent", "sent@example.com", critical())
        await becomes("suppressed", "suppressed@example.com")
        await becomes("expired", "expired@example.com", expires_at=datetime.now(UTC) - timedelta(seconds=1))
        await becomes("pending", "quiet@example.com", user_id=11)
        await becomes("sent", "held@example.com", flagged(1))
        await becomes("pending", "held@example.com", flagged(2))
        smtp.replies("end_of_data", "554 5.6.0 what is this?", times=1)
        await becomes("failed", "failed@example.com")
        smtp.rejects_recipients(times=1)
        await becomes("failed", "bad@example.com")
        smtp.disconnects_after_dot(accepts=True, times=1)
        await becomes("unknown", "unknown@example.com")
        smtp.is_full(times=1)
        await becomes("pending", "later@example.com")
    people.execute(
        "UPDATE moderation_notification_logs SET state = 'sending', recipient = 'sending@example.com' "
        "WHERE recipient = 'later@example.com'"
    )
    expected["sending@example.com"] = "sending"
    del expected["later@example.com"]

    assert {row["recipient"]: row["status"] for row in mail.log()} == expected
    assert site.call("moderation.refused_rows") == []
    assert site.call("moderation.hidden_logs") == []
    assert {row["recipient"]: row["status"] for row in mail.log()} == expected
    seen = people.rows("SELECT recipient, status FROM moderation_notification_logs")
    assert {row["recipient"]: row["status"] for row in seen} == {
        recipient: {"sent": "sent", "pending": "pending", "sending": "pending"}.get(state, "failed")
        for recipient, state in expected.items()
    }


@pytest.mark.parametrize(
    "arguments",
    [
        {"action": "ad_flagged", "title": "Увага", "message": "Два\nрядки", "ad_id": 7, "user_id": 5, "priority": 9},
        {"action": "a" * 50, "title": "t" * 200, "message": "m", "data": {"a": [1, {"b": None}], "ad_id": "x"}},
        {"action": "user complained", "title": " \n", "message": "", "data": {}},
    ],
)
async def test_requested_notification_is_the_row_of_the_sites_own_task(
    consuming: None, mail: MailTester, people: People, site: Site, arguments: dict[str, Any]
):
    manager = people.user("boss@example.com", staff=True, channels=["email"])  # without settings
    message = create_moderation_notification_task(manager_id=manager, **arguments)

    sent = await mail.publish(message)
    run = await mail.runs.over(sent.message_id)

    assert (run["status"], run["statistics"]) == ("succeeded", {"notifications": 1})
    (row,) = people.notices()
    made = site.call("moderation.notification_row", number=row["id"])
    assert made == site.call("moderation.notify_manager", manager_id=manager, **arguments)
    assert made["data"] == arguments.get("data", {})


async def test_requested_notification_for_others_than_active_staff_is_skipped(
    consuming: None, mail: MailTester, people: People
):
    inactive, customer = people.user(staff=True, active=False), people.user()
    found = []

    for manager in (inactive, customer, customer + 1):
        message = NotificationRequested(manager_id=manager, action="a", title="t", message="m", ad_id=2**40)
        run = await mail.runs.over((await mail.publish(message)).message_id)
        found.append((run["status"], run["error"]))

    assert found == [
        ("skipped", f"user {inactive}: not active staff"),
        ("skipped", f"user {customer}: not active staff"),
        ("skipped", f"user {customer + 1}: does not exist"),
    ]
    assert people.notices() == people.log("info_table") == []
