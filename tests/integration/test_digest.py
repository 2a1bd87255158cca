"""mail.digest: letters to a manager that were too many go out as one."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers.mail import digest as job
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from schemas.mail import SendDigests
from tests.fixtures.mail import MANAGER, Post, Serving, flagged, urgent, wish
from tests.fixtures.smtp import SmtpServer
from tests.support.alone import transaction
from tests.support.waiting import eventually

WINDOW = timedelta(hours=1)


async def flood(post: Post, count: int, *, to: str = MANAGER, first: int = 1) -> list[str]:
    """So many letters to a manager, one after the other; returns what became of each."""
    seen = []
    for number in range(first, first + count):
        asked = await post.ask(wish(flagged(number), to=to, locale="en", user_id=5))
        run = await post.runs.over(asked.message_id)
        seen.append(run["error"] or post.row(asked)["status"])
    return seen


async def tick(post: Post) -> dict[str, Any]:
    """A run of the job."""
    asked = await post.ask(SendDigests())
    statistics: dict[str, Any] = (await post.runs.over(asked.message_id))["statistics"]
    return statistics


def states(post: Post) -> dict[str, int]:
    """How many rows of the log have each status."""
    rows = post.log()
    return {status: sum(row["status"] == status for row in rows) for status in {row["status"] for row in rows}}


async def all_are(post: Post, status: str) -> None:
    async def look() -> bool:
        return set(states(post)) == {status}

    await eventually(look)


async def test_what_is_more_than_so_many_within_the_window_goes_out_as_one(
    post: Post, serving: Serving, smtp: SmtpServer, relay: None
):
    async with serving(digest_above=3, digest_window=WINDOW):
        seen = await flood(post, 7)
        too_early = await tick(post)
        post.passes(WINDOW)
        figures = await tick(post)
        await all_are(post, "sent")

    assert seen == ["sent"] * 3 + ["held for the digest"] * 4
    assert too_early == {"digests": 0, "letters": 0}
    assert figures == {"digests": 1, "letters": 4}
    assert len(smtp.letters) == 4
    digest = smtp.letters[-1].message
    text = digest.get_body(("plain",))
    assert text is not None
    assert all(f"Lada {number}" in text.get_content() for number in (4, 5, 6, 7))
    assert "Lada 3" not in text.get_content()
    *singles, letter = sorted(post.log(), key=lambda row: row["letter"] == "manager_digest")
    held = singles[3:]
    assert {row["digest"] for row in held} == {letter["key"]} == {f"digest:{held[0]['id']}"}
    assert {row["external_id"] for row in held} == {letter["external_id"]} == {digest["Message-ID"]}
    assert [row["held"] for row in post.log()] == [None] * 8


async def test_what_was_held_is_not_sent_when_its_message_comes_again(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 1)
        held = await post.ask(wish(flagged(), to=MANAGER))
        await post.runs.over(held.message_id)
        again = await post.ask(wish(flagged(), to=MANAGER, key=post.row(held)["key"]))
        run = await post.runs.over(again.message_id)

    assert (run["status"], run["error"]) == ("skipped", "held for the digest")
    assert len(smtp.letters) == 1


async def test_what_goes_out_in_a_digest_is_not_sent_when_its_message_comes_again(
    post: Post, serving: Serving, smtp: SmtpServer
):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 3)
        post.passes(WINDOW)
        await tick(post)  # nobody relays the digest yet
        again = await post.ask(wish(flagged(2), to=MANAGER, key=post.log()[1]["key"]))
        run = await post.runs.over(again.message_id)

    assert (run["status"], run["error"]) == ("skipped", "goes out in a digest")
    assert len(smtp.letters) == 1


async def test_a_digest_of_old_news_is_sent_all_the_same(post: Post, serving: Serving, smtp: SmtpServer, relay: None):
    old = datetime.now(UTC) - timedelta(days=3)

    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 1)
        for number in (2, 3):
            asked = await post.ask(wish(flagged(number, occurred_at=old), to=MANAGER))
            await post.runs.over(asked.message_id)
        post.passes(WINDOW)
        await tick(post)
        await all_are(post, "sent")

    assert len(smtp.letters) == 2


async def test_a_letter_that_was_held_is_as_late_as_it_was_before(post: Post, serving: Serving):
    soon = datetime.now(UTC) + timedelta(hours=2)

    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 1)
        held = await post.ask(wish(flagged(2), to=MANAGER, expires_at=soon))
        await post.runs.over(held.message_id)
        post.passes(WINDOW)
        await tick(post)

    (asked,) = post.sql("SELECT payload FROM outbox")
    assert datetime.fromisoformat(asked["payload"]["expires_at"]) == soon


async def test_one_that_was_held_goes_out_as_itself(post: Post, serving: Serving, smtp: SmtpServer, relay: None):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 2)
        post.passes(WINDOW)
        await tick(post)
        await all_are(post, "sent")

    assert len(smtp.letters) == 2
    assert "Lada 2" in smtp.letters[-1].message["Subject"]
    assert {row["letter"] for row in post.log()} == {"manager_ad_flagged"}


async def test_critical_letters_never_wait(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 2)
        row = await post.logged(await post.ask(wish(urgent(), to=MANAGER)))

    assert row["status"] == "sent"
    assert len(smtp.letters) == 2


async def test_after_the_digest_the_window_begins_anew(post: Post, serving: Serving, smtp: SmtpServer, relay: None):
    async with serving(digest_above=2, digest_window=WINDOW):
        await flood(post, 5)
        post.passes(WINDOW)
        await tick(post)
        await all_are(post, "sent")
        seen = await flood(post, 3, first=10)

    assert seen == ["sent", "sent", "held for the digest"]


async def test_each_manager_has_a_digest_of_his_own(post: Post, serving: Serving, smtp: SmtpServer, relay: None):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 3)
        await flood(post, 3, to="other@example.com")
        post.passes(WINDOW)
        figures = await tick(post)
        await all_are(post, "sent")

    assert figures == {"digests": 2, "letters": 4}
    assert [letter.recipients[0] for letter in smtp.letters].count(MANAGER) == 2


async def test_a_huge_digest_names_some_and_counts_the_rest(
    post: Post, serving: Serving, smtp: SmtpServer, relay: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(job, "ITEMS", 3)

    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 6)
        post.passes(WINDOW)
        await tick(post)
        await all_are(post, "sent")

    text = smtp.letters[-1].message.get_body(("plain",))
    assert text is not None
    assert "Lada 4" in text.get_content()
    assert "Lada 5" not in text.get_content()


async def test_the_letters_of_a_digest_share_its_fate(post: Post, serving: Serving, smtp: SmtpServer, relay: None):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 4)
        post.passes(WINDOW)
        smtp.knows_nobody()
        await tick(post)

        async def ended() -> bool:
            return states(post) == {"sent": 1, "failed": 4}

        await eventually(ended)

    assert {row["reply"] for row in post.log() if row["status"] == "failed"} == {"550 5.1.1 no such user here"}


async def test_who_has_unsubscribed_gets_no_digest(post: Post, serving: Serving, smtp: SmtpServer, relay: None):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 3)
        post.suppress(MANAGER, "subscribed")
        post.passes(WINDOW)
        await tick(post)

        async def ended() -> bool:
            return states(post) == {"sent": 1, "suppressed": 3}

        await eventually(ended)

    assert len(smtp.letters) == 1


async def test_two_runs_at_once_ask_for_each_letter_once(
    post: Post, serving: Serving, smtp: SmtpServer, database: Database, settings: Settings
):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 5)
    post.passes(WINDOW)
    works = [transaction("mail.digest", database, settings) for _ in range(2)]

    async def run(work: Any) -> int:
        async with work.session:
            await job.send_digests(SendDigests(), work)
            await asyncio.sleep(0.1)
            await work.session.commit()
        return len(work.rows)

    asked = await asyncio.gather(*map(run, works))

    assert sorted(asked) == [0, 1]


async def test_a_run_that_dies_before_its_commit_releases_nothing(
    post: Post, serving: Serving, smtp: SmtpServer, database: Database, settings: Settings
):
    async with serving(digest_above=1, digest_window=WINDOW):
        await flood(post, 3)
    post.passes(WINDOW)
    work = transaction("mail.digest", database, settings)

    async with work.session:
        await job.send_digests(SendDigests(), work)
        await work.session.rollback()

    assert sum(row["held"] is not None for row in post.log()) == 2
    assert {row["digest"] for row in post.log()} == {None}
