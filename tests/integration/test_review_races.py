"""An edit that comes while an ad is being judged: what is decided upon is what stands there."""

from itertools import count

import pytest

from consumers.moderation.review import review as job
from pocketwatch.errors import RetryLater
from tests.fixtures.moderation import CLEAN, PHONE, REFUSAL, Model, Review, Submitted, completion


async def test_an_edit_while_the_classifier_thinks_is_judged_and_the_stale_approval_is_nobodys(
    model: Model, review: Review, submitted: Submitted
):
    ad = submitted.add(CLEAN)
    model.meanwhile = lambda: submitted.edit(ad, PHONE)

    await review(ad)

    row = submitted.row(ad)
    assert (row["status"], row["description"], row["auto_moderation_attempts"]) == ("needs_review", PHONE, 1)
    assert [decision["action"] for decision in submitted.decisions(ad)] == ["needs_edit"]
    assert set(submitted.sent()) == {"user.ad.needs_edit", "ad.moderated"}


async def test_an_edit_that_mends_an_ad_is_not_punished_for_what_stood_there_before(
    model: Model, review: Review, submitted: Submitted
):
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
async def test_a_status_that_somebody_sets_meanwhile_stays(
    model: Model, review: Review, submitted: Submitted, status: str
):
    ad = submitted.add(CLEAN)
    model.meanwhile = lambda: submitted.edit(ad, CLEAN, status=status)

    run = await review(ad)

    assert run["status"] == "skipped"
    assert submitted.row(ad)["status"] == status
    assert (submitted.decisions(ad), submitted.sent()) == ([], {})


async def test_the_last_attempt_that_is_used_up_meanwhile_is_seen(model: Model, review: Review, submitted: Submitted):
    ad = submitted.add(CLEAN)
    for text in ("one", "another"):
        submitted.decided(ad, "needs_edit", days_ago=1, text=text)
    # The owner edits, that is decided upon, and he puts back what stood there before.
    model.meanwhile = lambda: submitted.decided(ad, "needs_edit", days_ago=0, text="a third")

    await review(ad)

    assert submitted.decisions(ad)[-1]["action"] == "max_attempts_reached"
    assert submitted.row(ad)["status"] == "rejected"


async def test_an_ad_that_is_deleted_meanwhile_is_skipped(model: Model, review: Review, submitted: Submitted):
    ad = submitted.add(CLEAN)
    model.meanwhile = lambda: submitted.execute("DELETE FROM car_ads")

    run = await review(ad)

    assert (run["status"], run["error"]) == ("skipped", "there is no such ad (any more)")
    assert submitted.decisions(ad) == []


async def test_what_is_not_judged_may_change_meanwhile(model: Model, review: Review, submitted: Submitted):
    ad = submitted.add(CLEAN)
    model.meanwhile = lambda: submitted.execute("UPDATE car_ads SET is_favorite = true, updated_at = now()")

    await review(ad)

    assert len(model.asked) == 1
    assert submitted.row(ad)["status"] == "active"


async def test_an_ad_that_never_stands_still_is_tried_again_later(model: Model, review: Review, submitted: Submitted):
    ad, turns = submitted.add(CLEAN), count()
    model.meanwhile = lambda: submitted.edit(ad, f"{CLEAN} Зміна {next(turns)}.")

    with pytest.raises(RetryLater, match=f"ad {ad} is edited faster than it can be judged"):
        await review(ad)

    assert len(model.asked) == job.LOOKS
    assert submitted.row(ad)["status"] == "pending"
    assert submitted.decisions(ad) == []


async def test_while_the_classifier_thinks_nobody_waits_for_a_lock_of_ours(
    model: Model, review: Review, submitted: Submitted
):
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
