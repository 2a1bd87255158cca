"""The limit of edits: after three failed attempts within 30 days, ads are rejected without a review."""

import asyncio

import psycopg
import pytest

from tests.fixtures.moderation import CLEAN, PHONE, RUDE, SCAM, Review, Submitted
from tests.support.waiting import eventually


async def fail_reviews(review: Review, submitted: Submitted, ad: int, *, times: int) -> None:
    for turn in range(times):
        submitted.edit(ad, f"{PHONE} Спроба {turn}.")
        await review(ad)
    submitted.clear_sent()


async def test_each_failed_edit_uses_an_attempt(review: Review, submitted: Submitted):
    ad, left = submitted.add(), []

    for text in (PHONE, f"{PHONE} Терміново!", f"{SCAM} Терміново!"):
        submitted.edit(ad, text)
        await review(ad)
        left.append(submitted.row(ad)["auto_moderation_attempts"])

    assert left == [1, 2, 3]
    assert [decision["action"] for decision in submitted.decisions(ad)] == ["needs_edit", "needs_edit", "reject"]


async def test_fourth_edit_is_rejected_without_review_and_announced(review: Review, submitted: Submitted):
    ad = submitted.add()
    await fail_reviews(review, submitted, ad, times=3)

    submitted.edit(ad, CLEAN)
    run = await review(ad)

    assert run["statistics"] == {
        "ad_id": ad,
        "decision": "max_attempts_reached",
        "status": "rejected",
        "attempts": 3,
    }
    row, sent = submitted.row(ad), submitted.sent()
    assert set(sent) == {"user.ad.max_attempts", "manager.ad.max_attempts", "ad.moderated"}
    for notice in (sent["user.ad.max_attempts"], sent["manager.ad.max_attempts"]):
        assert (notice["data"]["action"], notice["data"]["status"]) == ("max_attempts_reached", "rejected")
        assert (notice["data"]["attempts_count"], notice["data"]["max_attempts"]) == (3, 3)
    assert row["moderation_reason"] == "Ліміт змін вичерпано: 3 протягом 30 днів. Останню зміну не розглядали."
    assert (row["status"], row["auto_moderation_attempts"], row["needs_manual_review"]) == ("rejected", 3, False)
    decision = submitted.decisions(ad)[-1]
    assert (decision["action"], decision["rules_version"], decision["scores"]) == ("max_attempts_reached", None, None)
    assert (sent["ad.moderated"]["decision"], sent["ad.moderated"]["rules"]) == ("reject", None)


async def test_managers_are_notified_of_too_many_edits_once(review: Review, submitted: Submitted):
    ad = submitted.add()
    await fail_reviews(review, submitted, ad, times=4)

    submitted.edit(ad, CLEAN)
    await review(ad)

    assert set(submitted.sent()) == {"user.ad.max_attempts", "ad.moderated"}
    assert submitted.row(ad)["auto_moderation_attempts"] == 3


async def test_unchanged_rejected_ad_is_skipped(review: Review, submitted: Submitted):
    ad = submitted.add()
    await fail_reviews(review, submitted, ad, times=4)

    run = await review(ad)

    assert (run["status"], run["error"]) == (
        "skipped",
        "rejected for too many edits, and unchanged since",
    )


async def test_rejected_ad_is_reviewed_after_30_days(review: Review, submitted: Submitted):
    ad = submitted.add()
    await fail_reviews(review, submitted, ad, times=3)
    submitted.edit(ad, CLEAN)
    await review(ad)
    submitted.execute("UPDATE moderation_decisions SET decided_at = decided_at - interval '30 days'")

    await review(ad)

    row = submitted.row(ad)
    assert (row["status"], row["auto_moderation_attempts"]) == ("active", 0)


@pytest.mark.parametrize(("days_ago", "status"), [(29.9, "rejected"), (30.1, "active")])
async def test_failed_edit_counts_for_30_days(review: Review, submitted: Submitted, days_ago: float, status: str):
    ad = submitted.add(CLEAN)
    for text in ("one", "another"):
        submitted.add_decision(ad, "needs_edit", days_ago=1, text=text)
    submitted.add_decision(ad, "reject", days_ago=days_ago, text="the oldest")

    await review(ad)

    assert submitted.row(ad)["status"] == status


async def test_manual_review_and_approval_use_no_attempt(review: Review, submitted: Submitted):
    ad = submitted.add(RUDE)
    for action in ("review", "approve", "archived", "restored", "max_attempts_reached"):
        submitted.add_decision(ad, action, days_ago=1, text=action)

    await review(ad)

    assert submitted.row(ad)["auto_moderation_attempts"] == 0


async def test_edits_of_other_ads_do_not_count(review: Review, submitted: Submitted):
    owner = submitted.user()
    ad, other = submitted.add(CLEAN, owner=owner), submitted.add(owner=owner)
    await fail_reviews(review, submitted, other, times=3)

    await review(ad)

    assert submitted.row(ad)["status"] == "active"


async def test_repeated_content_uses_no_further_attempt(review: Review, submitted: Submitted):
    ad = submitted.add()

    for _ in range(3):
        for text in (PHONE, f"{PHONE} Терміново!"):
            submitted.edit(ad, text)
            await review(ad)

    assert submitted.row(ad)["auto_moderation_attempts"] == 2
    assert len(submitted.decisions(ad)) == 6


async def test_bypass_ignores_the_limit(review: Review, submitted: Submitted):
    ad = submitted.add(PHONE)
    await fail_reviews(review, submitted, ad, times=3)
    submitted.execute("UPDATE auth_user SET is_staff = true")

    submitted.edit(ad, f"{PHONE} Від магазину.")
    await review(ad)

    assert submitted.row(ad)["status"] == "active"


async def test_concurrent_submissions_count_correctly(review: Review, submitted: Submitted):
    ad = submitted.add()
    await fail_reviews(review, submitted, ad, times=2)
    submitted.edit(ad, f"{PHONE} Третя.")

    with psycopg.connect(submitted.database_url) as editor:
        editor.execute("SELECT FROM car_ads FOR UPDATE")
        both = [asyncio.create_task(review(ad)) for _ in range(2)]
        await eventually(lambda: waiting(submitted))
        editor.execute("UPDATE car_ads SET title = 'Четверта', updated_at = now()")
    rows = await asyncio.gather(*both)

    assert sorted(row["status"] for row in rows) == ["skipped", "succeeded"]
    assert [decision["action"] for decision in submitted.decisions(ad)] == ["needs_edit"] * 3
    assert submitted.row(ad)["auto_moderation_attempts"] == 3


async def waiting(submitted: Submitted) -> bool:
    found = submitted.rows(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return int(found[0]["n"]) >= 2
