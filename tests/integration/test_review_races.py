"""An edit that comes while an ad is being judged: what is decided upon is what stands there."""

from itertools import count

import pytest

from consumers.moderation.review import review as job
from pocketwatch.errors import RetryLater
from tests.fixtures.moderation import CLEAN, PHONE, REFUSAL, Model, Review, Submitted, completion


async def test_edit_during_classification_discards_the_stale_approval(
    model: Model, review: Review, submitted: Submitted
):
    ad = submitted.add(CLEAN)
    model.meanwhile = lambda: submitted.edit(ad, PHONE)

    await review(ad)

    row = submitted.row(ad)
    assert (row["status"], row["description"], row["auto_moderation_attempts"]) == ("needs_review", PHONE, 1)
    assert [decision["action"] for decision in submitted.decisions(ad)] == ["needs_edit"]
    assert set(submitted.sent()) == {"user.ad.needs_edit", "ad.moderated"}


async def test_corrected_ad_is_not_rejected_for_its_old_content(model: Model, review: Review, submitted: Submitted):
    ad, better = submitted.add(CLEAN), f"{CLEAN} Без торгу."
    replies = [completion({"decision": "approve", "reason": "Fine.", "categories": []}), completion(REFUSAL)]

    def edit() -> None:
        model.reply = replies.pop()
        submitted.edit(ad, better)

    model.meanwhile = edit
    await review(ad)

    assert better in model.asked[1]["messages"][1]["content"]
    assert [decision["action"] for decision in submitted.decisions(ad)] == ["approve"]


@pytest.mark.parametrize("status", ["sold", "blocked", "archived", "active"])
async def test_status_set_during_review_is_kept(model: Model, review: Review, submitted: Submitted, status: str):
    ad = submitted.add(CLEAN)
    model.meanwhile = lambda: submitted.edit(ad, CLEAN, status=status)

    run = await review(ad)

    assert run["status"] == "skipped"
    assert submitted.row(ad)["status"] == status
    assert (submitted.decisions(ad), submitted.sent()) == ([], {})


async def test_attempt_used_during_review_counts(model: Model, review: Review, submitted: Submitted):
    ad = submitted.add(CLEAN)
    for text in ("one", "another"):
        submitted.decided(ad, "needs_edit", days_ago=1, text=text)
    # The owner edits, that is decided upon, and he puts back what stood there before.
    model.meanwhile = lambda: submitted.decided(ad, "needs_edit", days_ago=0, text="a third")

    await review(ad)

    assert submitted.decisions(ad)[-1]["action"] == "max_attempts_reached"
    assert submitted.row(ad)["status"] == "rejected"


async def test_ad_deleted_during_review_is_skipped(model: Model, review: Review, submitted: Submitted):
    ad = submitted.add(CLEAN)
    model.meanwhile = lambda: submitted.execute("DELETE FROM car_ads")

    run = await review(ad)

    assert (run["status"], run["error"]) == ("skipped", "there is no such ad (any more)")
    assert submitted.decisions(ad) == []


async def test_change_of_unreviewed_fields_is_ignored(model: Model, review: Review, submitted: Submitted):
    ad = submitted.add(CLEAN)
    model.meanwhile = lambda: submitted.execute("UPDATE car_ads SET is_favorite = true, updated_at = now()")

    await review(ad)

    assert len(model.asked) == 1
    assert submitted.row(ad)["status"] == "active"


async def test_ad_that_keeps_changing_is_retried_later(model: Model, review: Review, submitted: Submitted):
    ad, turns = submitted.add(CLEAN), count()
    model.meanwhile = lambda: submitted.edit(ad, f"{CLEAN} Зміна {next(turns)}.")

    with pytest.raises(RetryLater, match=f"ad {ad} is edited faster than it can be judged"):
        await review(ad)

    assert len(model.asked) == job.LOOKS
    assert submitted.row(ad)["status"] == "pending"
    assert submitted.decisions(ad) == []


async def test_no_transaction_is_open_during_classification(model: Model, review: Review, submitted: Submitted):
    ad, open_transactions = submitted.add(CLEAN), []

    def look() -> None:
        open_transactions.extend(
            submitted.rows(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE %(idle)s",
                idle="idle in transaction%",
            )
        )

    model.meanwhile = look
    await review(ad)

    assert len(model.asked) == 1
    assert open_transactions == []
