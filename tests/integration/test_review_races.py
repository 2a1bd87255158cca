"""Changes during a review: a decision applies only to the content that was judged."""

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
        submitted.add_decision(ad, "needs_edit", days_ago=1, text=text)
    # The owner edits the ad, that is decided, and they restore the old content.
    model.meanwhile = lambda: submitted.add_decision(ad, "needs_edit", days_ago=0, text="a third")

    await review(ad)

    assert submitted.decisions(ad)[-1]["action"] == "max_attempts_reached"
    assert submitted.row(ad)["status"] == "rejected"


async def test_ad_deleted_during_review_is_skipped(model: Model, review: Review, submitted: Submitted):
    ad = submitted.add(CLEAN)
    model.meanwhile = lambda: submitted.execute("DELETE FROM car_ads")

    run = await review(ad)

    assert (run["status"], run["error"]) == ("skipped", f"ad {ad}: does not exist")
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

    with pytest.raises(RetryLater, match=f"ad {ad} changed during each of 3 review attempts"):
        await review(ad)

    assert len(model.asked) == job.MAX_REVIEWS
    assert submitted.row(ad)["status"] == "pending"
    assert submitted.decisions(ad) == []


async def test_no_transaction_is_open_during_classification(model: Model, review: Review, submitted: Submitted):
    ad, open_transactions = submitted.add(CLEAN), []

    def record_open_transactions() -> None:
        open_transactions.extend(
            submitted.rows(
                "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE %(idle)s",
                idle="idle in transaction%",
            )
        )

    model.meanwhile = record_open_transactions
    await review(ad)

    assert len(model.asked) == 1
    assert open_transactions == []
