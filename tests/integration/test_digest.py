"""mail.digest: emails above the threshold of a manager are sent as one."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers.mail import digest as job
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from schemas.mail import SendDigests
from tests.fixtures.mail import MANAGER, MailTester, Serving, critical, flagged, request_for
from tests.fixtures.smtp import SmtpServer
from tests.support.job_contexts import job_context
from tests.support.waiting import eventually

WINDOW = timedelta(hours=1)


async def flood(mail: MailTester, count: int, *, to: str = MANAGER, first: int = 1) -> list[str]:
    """Request so many emails to a manager, one after another; return the reason or status of each."""
    seen = []
    for number in range(first, first + count):
        requested = await mail.publish(request_for(flagged(number), to=to, locale="en", user_id=5))
        run = await mail.runs.over(requested.message_id)
        seen.append(run["error"] or mail.row(requested)["status"])
    return seen


async def tick(mail: MailTester) -> dict[str, Any]:
    """Run the job, and return its statistics."""
    requested = await mail.publish(SendDigests())
    statistics: dict[str, Any] = (await mail.runs.over(requested.message_id))["statistics"]
    return statistics


def states(mail: MailTester) -> dict[str, int]:
    """Count the rows of the log by status."""
    rows = mail.log()
    return {status: sum(row["status"] == status for row in rows) for status in {row["status"] for row in rows}}


async def all_are(mail: MailTester, status: str) -> None:
    async def look() -> bool:
        return set(states(mail)) == {status}

    await eventually(look)


async def test_emails_above_the_threshold_are_sent_as_one_digest(
    mail: MailTester, serving: Serving, smtp: SmtpServer, relay: None
):
    async with serving(digest_above=3, digest_window=WINDOW):
        seen = await flood(mail, 7)
        too_early = await tick(mail)
        mail.advance_clock(WINDOW)
        figures = await tick(mail)
        await all_are(mail, "sent")

    assert seen == ["sent"] * 3 + ["held for the digest"] * 4
    assert too_early == {"digests": 0, "letters": 0}
    assert figures == {"digests": 1, "letters": 4}
    assert len(smtp.emails) == 4
    digest = smtp.emails[-1].message
    text = digest.get_body(("plain",))
    assert text is not None
    assert all(f"Lada {number}" in text.get_content() for number in (4, 5, 6, 7))
    assert "Lada 3" not in text.get_content()
    *singles, summary = sorted(mail.log(), key=lambda row: row["letter"] == "manager_digest")
    held = singles[3:]
    assert {row["digest"] for row in held} == {summary["key"]} == {f"digest:{held[0]['id']}"}
    assert {row["external_id"] for row in held} == {summary["external_id"]} == {digest["Message-ID"]}
    assert [row["held"] for row in mail.log()] == [None] * 8


async def test_redelivered_held_email_is_not_sent(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 1)
        held = await mail.publish(request_for(flagged(), to=MANAGER))
        await mail.runs.over(held.message_id)
        again = await mail.publish(request_for(flagged(), to=MANAGER, key=mail.row(held)["key"]))
        run = await mail.runs.over(again.message_id)

    assert (run["status"], run["error"]) == ("skipped", "held for the digest")
    assert len(smtp.emails) == 1


async def test_redelivered_email_of_a_digest_is_not_sent(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 3)
        mail.advance_clock(WINDOW)
        await tick(mail)  # the digest is not relayed yet
        again = await mail.publish(request_for(flagged(2), to=MANAGER, key=mail.log()[1]["key"]))
        run = await mail.runs.over(again.message_id)

    assert (run["status"], run["error"]) == ("skipped", "sent in a digest")
    assert len(smtp.emails) == 1


async def test_digest_of_old_events_is_sent(mail: MailTester, serving: Serving, smtp: SmtpServer, relay: None):
    old = datetime.now(UTC) - timedelta(days=3)

    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 1)
        for number in (2, 3):
            requested = await mail.publish(request_for(flagged(number, occurred_at=old), to=MANAGER))
            await mail.runs.over(requested.message_id)
        mail.advance_clock(WINDOW)
        await tick(mail)
        await all_are(mail, "sent")

    assert len(smtp.emails) == 2


async def test_released_email_keeps_its_expiry(mail: MailTester, serving: Serving):
    soon = datetime.now(UTC) + timedelta(hours=2)

    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 1)
        held = await mail.publish(request_for(flagged(2), to=MANAGER, expires_at=soon))
        await mail.runs.over(held.message_id)
        mail.advance_clock(WINDOW)
        await tick(mail)

    (requested,) = mail.sql("SELECT payload FROM outbox")
    assert datetime.fromisoformat(requested["payload"]["expires_at"]) == soon


async def test_single_held_email_is_sent_as_itself(mail: MailTester, serving: Serving, smtp: SmtpServer, relay: None):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 2)
        mail.advance_clock(WINDOW)
        await tick(mail)
        await all_are(mail, "sent")

    assert len(smtp.emails) == 2
    assert "Lada 2" in smtp.emails[-1].message["Subject"]
    assert {row["letter"] for row in mail.log()} == {"manager_ad_flagged"}


async def test_critical_email_is_never_held(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 2)
        row = await mail.logged(await mail.publish(request_for(critical(), to=MANAGER)))

    assert row["status"] == "sent"
    assert len(smtp.emails) == 2


async def test_window_restarts_after_a_digest(mail: MailTester, serving: Serving, smtp: SmtpServer, relay: None):
    async with serving(digest_above=2, digest_window=WINDOW):
        await flood(mail, 5)
        mail.advance_clock(WINDOW)
        await tick(mail)
        await all_are(mail, "sent")
        seen = await flood(mail, 3, first=10)

    assert seen == ["sent", "sent", "held for the digest"]


async def test_each_manager_gets_one_digest(mail: MailTester, serving: Serving, smtp: SmtpServer, relay: None):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 3)
        await flood(mail, 3, to="other@example.com")
        mail.advance_clock(WINDOW)
        figures = await tick(mail)
        await all_are(mail, "sent")

    assert figures == {"digests": 2, "letters": 4}
    assert [email.recipients[0] for email in smtp.emails].count(MANAGER) == 2


async def test_large_digest_lists_some_and_counts_the_rest(
    mail: MailTester, serving: Serving, smtp: SmtpServer, relay: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job, "MAX_ITEMS", 3)

    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 6)
        mail.advance_clock(WINDOW)
        await tick(mail)
        await all_are(mail, "sent")

    text = smtp.emails[-1].message.get_body(("plain",))
    assert text is not None
    assert "Lada 4" in text.get_content()
    assert "Lada 5" not in text.get_content()


async def test_result_of_a_digest_is_copied_to_its_emails(
    mail: MailTester, serving: Serving, smtp: SmtpServer, relay: None
):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 4)
        mail.advance_clock(WINDOW)
        smtp.rejects_recipients()
        await tick(mail)

        async def ended() -> bool:
            return states(mail) == {"sent": 1, "failed": 4}

        await eventually(ended)

    assert {row["reply"] for row in mail.log() if row["status"] == "failed"} == {"550 5.1.1 no such user here"}


async def test_unsubscribed_manager_gets_no_digest(mail: MailTester, serving: Serving, smtp: SmtpServer, relay: None):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 3)
        mail.suppress(MANAGER, "subscribed")
        mail.advance_clock(WINDOW)
        await tick(mail)

        async def ended() -> bool:
            return states(mail) == {"sent": 1, "suppressed": 3}

        await eventually(ended)

    assert len(smtp.emails) == 1


async def test_concurrent_runs_request_each_email_once(
    mail: MailTester, serving: Serving, smtp: SmtpServer, database: Database, settings: Settings
):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 5)
    mail.advance_clock(WINDOW)
    works = [job_context("mail.digest", database, settings) for _ in range(2)]

    async def run(work: Any) -> int:
        async with work.session:
            await job.send_digests(SendDigests(), work)
            await asyncio.sleep(0.1)
            await work.session.commit()
        return len(work.rows)

    requested = await asyncio.gather(*map(run, works))

    assert sorted(requested) == [0, 1]


async def test_run_that_is_rolled_back_releases_nothing(
    mail: MailTester, serving: Serving, smtp: SmtpServer, database: Database, settings: Settings
):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(mail, 3)
    mail.advance_clock(WINDOW)
    work = job_context("mail.digest", database, settings)

    async with work.session:
        await job.send_digests(SendDigests(), work)
        await work.session.rollback()

    assert sum(row["held"] is not None for row in mail.log()) == 2
    assert {row["digest"] for row in mail.log()} == {None}
