"""`moderation.review`, on the marketplace's own tables."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from consumers.moderation.review.ad import MAX_REVIEWED_LENGTH
from consumers.moderation.review.decisions import AWAITING_DECISION, TRANSITIONS
from consumers.moderation.review.judge import rules_of
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.errors import RetryLater
from pocketwatch.storage import locks
from publishers import trigger
from schemas.moderation import AdSubmitted
from tests.fixtures.moderation import CLEAN, PHONE, RUDE, SCAM, Review, Submitted
from tests.fixtures.suite import Consume, Deliver, Program, Runs
from tests.support.waiting import eventually

VERSION = rules_of(None).version
MODERATED = ("status", "moderation_reason", "auto_moderation_attempts", "needs_manual_review")


async def test_clean_ad_becomes_active_and_owner_is_notified(deliver: Deliver, submitted: Submitted):
    ad = submitted.add(CLEAN)

    run = await deliver(AdSubmitted(ad_id=ad))

    assert run["status"] == "succeeded"
    assert run["statistics"] == {"ad_id": ad, "decision": "approve", "status": "active", "attempts": 0}
    row = submitted.row(ad)
    assert {name: row[name] for name in MODERATED} == {
        "status": "active",
        "moderation_reason": "",
        "auto_moderation_attempts": 0,
        "needs_manual_review": False,
    }
    assert row["moderated_at"] == row["updated_at"] >= run["started_at"]
    assert (row["moderated_by_id"], row["manual_review_requested_at"]) == (None, None)
    sent = submitted.sent()
    assert set(sent) == {"user.ad.approved", "ad.moderated"}
    notice = sent["user.ad.approved"]
    assert notice["notification_type"] == "user_moderation"
    assert notice["data"] | {"timestamp": None} == {
        "ad_id": ad,
        "action": "auto_approved",
        "status": "active",
        "user_id": row["owner_id"],
        "moderated_by_id": None,
        "reason": None,
        "attempts_count": 0,
        "max_attempts": 3,
        "details": {"locale": "uk", "categories": [], "reasons": [], "suggestions": [], "awaits_moderator": False},
        "timestamp": None,
    }
    assert sent["ad.moderated"] == {
        "ad_id": ad,
        "decision": "approve",
        "from_status": "pending",
        "to_status": "active",
        "attempts": 0,
        "rules": VERSION,
        "categories": [],
    }


async def test_decision_is_recorded_with_actor_and_reason(review: Review, submitted: Submitted):
    ad = submitted.add(PHONE)

    run = await review(ad)

    (decision,) = submitted.decisions(ad)
    assert {key: decision[key] for key in ("action", "from_status", "to_status", "actor", "rules_version")} == {
        "action": "needs_edit",
        "from_status": "pending",
        "to_status": "needs_review",
        "actor": f"rules {VERSION}",
        "rules_version": VERSION,
    }
    assert decision["message_id"] == run["message_id"]
    assert decision["reason"]
    assert decision["scores"]["contact"] > 0
    assert len(decision["content_hash"]) == 64
    (hit,) = decision["details"]["hits"]
    assert (hit["rule"], hit["severity"]) == ("contact.phone", "edit")
    assert "067 123 45 67" in hit["excerpt"]


async def test_ad_with_phone_number_is_sent_back_with_reason_and_attempts_left(review: Review, submitted: Submitted):
    ad = submitted.add(PHONE)

    await review(ad)

    row, sent = submitted.row(ad), submitted.sent()
    assert set(sent) == {"user.ad.needs_edit", "ad.moderated"}
    data = sent["user.ad.needs_edit"]["data"]
    assert (data["action"], data["status"]) == ("flagged", "needs_review")
    assert (data["attempts_count"], data["max_attempts"]) == (1, 3)
    assert data["details"]["categories"] == ["contact"]
    assert data["reason"] == " ".join(data["details"]["reasons"]) != ""
    assert {name: row[name] for name in MODERATED} == {
        "status": "needs_review",
        "moderation_reason": "\n".join(data["details"]["reasons"]),
        "auto_moderation_attempts": 1,
        "needs_manual_review": False,
    }
    assert (sent["ad.moderated"]["decision"], sent["ad.moderated"]["categories"]) == ("needs_edit", ["contact"])


async def test_flagged_ad_awaits_manual_review_without_using_an_attempt(review: Review, submitted: Submitted):
    ad = submitted.add(RUDE)

    await review(ad)

    row, sent = submitted.row(ad), submitted.sent()
    assert set(sent) == {"user.ad.needs_edit", "manager.ad.flagged", "ad.moderated"}
    assert sent["user.ad.needs_edit"]["data"]["action"] == "needs_review"
    notice = sent["manager.ad.flagged"]
    assert (notice["notification_type"], notice["priority"]) == ("manager_moderation", 8)
    assert (notice["data"]["action"], notice["data"]["user_id"]) == ("flagged", row["owner_id"])
    assert (row["status"], row["needs_manual_review"], row["auto_moderation_attempts"]) == ("needs_review", True, 0)
    assert row["manual_review_requested_at"] == row["moderated_at"]


async def test_rejected_ad_notifies_owner_with_reasons(review: Review, submitted: Submitted):
    ad = submitted.add(SCAM)

    await review(ad)

    row, sent = submitted.row(ad), submitted.sent()
    assert set(sent) == {"user.ad.rejected", "ad.moderated"}
    data = sent["user.ad.rejected"]["data"]
    assert (data["action"], data["status"], data["attempts_count"]) == ("auto_rejected", "rejected", 1)
    assert data["details"]["reasons"]
    assert (row["status"], row["auto_moderation_attempts"]) == ("rejected", 1)


async def test_locale_is_that_of_message_then_preferences_then_default(review: Review, submitted: Submitted):
    owner = submitted.user()
    submitted.execute("INSERT INTO notification_preferences (user_id, locale) VALUES (%(id)s, 'ru')", id=owner)
    with_preferences, without = submitted.add(owner=owner), submitted.add()
    details = {}

    for name, ad, locale in (
        ("message", with_preferences, "en"),
        ("preferences", with_preferences, None),
        ("default", without, None),
    ):
        submitted.edit(ad, f"{PHONE} {name}")
        await review(ad, locale=locale)
        details[name] = submitted.sent()["user.ad.needs_edit"]["data"]["details"]
        submitted.clear_sent()

    assert {name: each["locale"] for name, each in details.items()} == {
        "message": "en",
        "preferences": "ru",
        "default": "uk",
    }
    assert len({tuple(each["reasons"]) for each in details.values()}) == 3


@pytest.mark.parametrize(
    ("who", "actor"), [({"superuser": True}, "bypass:superuser"), ({"staff": True}, "bypass:staff")]
)
async def test_staff_and_superusers_bypass_moderation(
    review: Review, submitted: Submitted, who: dict[str, bool], actor: str
):
    ad = submitted.add(SCAM, owner=submitted.user(**who))

    await review(ad)

    (decision,) = submitted.decisions(ad)
    assert (decision["action"], decision["actor"], decision["rules_version"]) == ("approve", actor, None)
    assert submitted.row(ad)["status"] == "active"
    assert set(submitted.sent()) == {"ad.moderated"}


async def test_inactive_staff_does_not_bypass_moderation(review: Review, submitted: Submitted):
    ad = submitted.add(SCAM, owner=submitted.user(active=False, staff=True, superuser=True))

    await review(ad)

    assert submitted.row(ad)["status"] == "rejected"


PERMISSIONS = """
CREATE TABLE IF NOT EXISTS django_content_type (id serial PRIMARY KEY, app_label text, model text);
CREATE TABLE IF NOT EXISTS auth_permission (id serial PRIMARY KEY, name text, content_type_id int, codename text);
CREATE TABLE IF NOT EXISTS auth_group (id serial PRIMARY KEY, name text);
CREATE TABLE IF NOT EXISTS auth_group_permissions (id serial PRIMARY KEY, group_id int, permission_id int);
CREATE TABLE auth_user_user_permissions (id serial PRIMARY KEY, usermodel_id bigint, permission_id int);
CREATE TABLE auth_user_groups (id serial PRIMARY KEY, usermodel_id bigint, group_id int);
INSERT INTO django_content_type (id, app_label, model) VALUES (901, 'ads', 'carad'), (902, 'blog', 'post');
INSERT INTO auth_permission (id, name, content_type_id, codename)
  VALUES (901, '', 901, 'can_bypass_moderation'), (902, '', 902, 'can_bypass_moderation'), (903, '', 901, 'add_carad');
INSERT INTO auth_group (id, name) VALUES (901, 'trusted');
INSERT INTO auth_group_permissions (group_id, permission_id) VALUES (901, 901);
"""
OWN = "INSERT INTO auth_user_user_permissions (usermodel_id, permission_id) VALUES (%(user)s, {})"
OF_ANOTHER_USER = "INSERT INTO auth_user_user_permissions (usermodel_id, permission_id) VALUES (%(user)s + 1, 901)"
OF_GROUP = "INSERT INTO auth_user_groups (usermodel_id, group_id) VALUES (%(user)s, 901)"


@pytest.mark.parametrize(
    ("granted", "status"),
    [
        (OWN.format(901), "active"),
        (OF_GROUP, "active"),
        (OWN.format(902), "rejected"),
        (OWN.format(903), "rejected"),
        (OF_ANOTHER_USER, "rejected"),
    ],
    ids=["own", "of group", "of another app", "another permission", "of another user"],
)
async def test_bypass_needs_permission_of_the_ads_app(review: Review, submitted: Submitted, granted: str, status: str):
    owner = submitted.user()
    ad = submitted.add(SCAM, owner=owner)
    submitted.execute(PERMISSIONS)
    submitted.execute(granted, user=owner)

    await review(ad)

    assert submitted.row(ad)["status"] == status


@pytest.mark.parametrize("status", sorted(TRANSITIONS.keys() - AWAITING_DECISION))
async def test_ad_that_awaits_no_decision_is_skipped(review: Review, submitted: Submitted, status: str):
    ad = submitted.add(SCAM, status=status)
    before = submitted.row(ad)

    run = await review(ad)

    why = "already active" if status == "active" else f'status "{status}": does not await a decision'
    assert (run["status"], run["error"]) == ("skipped", why)
    assert submitted.row(ad) == before
    assert (submitted.decisions(ad), submitted.sent()) == ([], {})


@pytest.mark.parametrize("status", sorted(AWAITING_DECISION))
async def test_ad_that_awaits_a_decision_gets_one(review: Review, submitted: Submitted, status: str):
    ad = submitted.add(CLEAN, status=status)

    await review(ad)

    assert submitted.row(ad)["status"] == "active"


async def test_missing_ad_is_skipped(review: Review, submitted: Submitted):
    ad = 2**63 - 1

    run = await review(ad)

    assert (run["status"], run["error"]) == ("skipped", f"ad {ad}: does not exist")


async def test_unchanged_ad_is_skipped_without_using_an_attempt(review: Review, submitted: Submitted):
    ad = submitted.add(PHONE)
    await review(ad)
    before = submitted.row(ad)
    submitted.clear_sent()

    run = await review(ad)

    assert (run["status"], run["error"]) == ("skipped", "same content already decided")
    assert submitted.row(ad) == before
    assert submitted.sent() == {}
    assert len(submitted.decisions(ad)) == 1


async def test_resubmitted_content_is_decided_without_using_an_attempt(review: Review, submitted: Submitted):
    ad = submitted.add(PHONE)
    for _ in range(5):
        submitted.edit(ad, PHONE, status="pending")
        await review(ad)

    assert [decision["action"] for decision in submitted.decisions(ad)] == ["needs_edit"] * 5
    row = submitted.row(ad)
    assert (row["status"], row["auto_moderation_attempts"]) == ("needs_review", 1)


async def test_new_rules_version_decides_again(review: Review, submitted: Submitted):
    ad = submitted.add(PHONE)
    await review(ad)
    submitted.execute("UPDATE moderation_decisions SET rules_version = 'older rules'")

    run = await review(ad)

    assert run["status"] == "succeeded"
    assert submitted.row(ad)["auto_moderation_attempts"] == 1


@pytest.mark.parametrize("change", ["title = 'Інша назва'", "price = 1", "currency = 'EUR'", "dynamic_fields = '{}'"])
async def test_each_reviewed_field_changes_the_hash(review: Review, submitted: Submitted, change: str):
    ad = submitted.add(PHONE)
    await review(ad)
    submitted.execute(f"UPDATE car_ads SET {change} WHERE id = %(ad)s", ad=ad)

    await review(ad)

    first, second = submitted.decisions(ad)
    assert first["content_hash"] != second["content_hash"]


async def test_decision_by_person_is_not_overruled(review: Review, submitted: Submitted):
    ad, manager = submitted.add(CLEAN), submitted.user(staff=True)
    await review(ad)
    submitted.clear_sent()
    for status in ("rejected", "pending"):
        submitted.execute("UPDATE car_ads SET status = %(to)s, moderated_by_id = %(who)s", to=status, who=manager)

    await review(ad)

    row = submitted.row(ad)
    assert (row["status"], row["needs_manual_review"]) == ("needs_review", True)
    assert set(submitted.sent()) == {"user.ad.needs_edit", "manager.ad.review_required", "ad.moderated"}
    assert submitted.decisions(ad)[-1]["reason"] == "a person has decided about this very text before"

    submitted.edit(ad, f"{CLEAN} Є зимова гума.")
    await review(ad)
    assert submitted.row(ad)["status"] == "active"


async def test_manual_review_keeps_its_place_in_the_queue(review: Review, submitted: Submitted):
    ad = submitted.add(RUDE)
    await review(ad)
    asked = submitted.row(ad)["manual_review_requested_at"]

    submitted.edit(ad, f"{RUDE}!")
    await review(ad)

    assert submitted.row(ad)["manual_review_requested_at"] == asked
    submitted.edit(ad, CLEAN)
    await review(ad)
    row = submitted.row(ad)
    assert (row["status"], row["needs_manual_review"], row["manual_review_requested_at"]) == ("active", False, None)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        "2015",
        7,
        {"year": [1], "mileage": None},
        {"year": "x" * 5000, "mileage": {"km": "1" * 5000}},
        {"year": 1e300},
    ],
    ids=["a list", "text", "a number", "a list inside", "long", "large"],
)
async def test_malformed_dynamic_fields_are_tolerated(review: Review, submitted: Submitted, fields: Any):
    ad = submitted.add(CLEAN, fields=fields, price="NaN")

    run = await review(ad)

    assert run["status"] == "succeeded"


async def test_ad_without_description_is_judged_by_its_title(review: Review, submitted: Submitted):
    ad = submitted.add("", title="Таврія, 067 123 45 67")

    await review(ad)

    assert "contact.phone" in {hit["rule"] for hit in submitted.decisions(ad)[-1]["details"]["hits"]}


async def test_overlong_ad_needs_manual_review(review: Review, submitted: Submitted):
    ad = submitted.add("не бита, " * (MAX_REVIEWED_LENGTH // 9 + 1))

    await review(ad)

    assert submitted.row(ad)["needs_manual_review"]
    assert submitted.decisions(ad)[-1]["reason"].startswith("its text is longer than")


async def test_duplicate_message_decides_once(
    consume: Consume, publisher: Publisher, runs: Runs, submitted: Submitted, log_lines: list[dict[str, Any]]
):
    ad = submitted.add(PHONE)
    async with consume():
        sent = await trigger.publish(publisher, AdSubmitted(ad_id=ad))
        row = await runs.over(sent.message_id)
        submitted.edit(ad, f"{PHONE} Після сьомої.")  # a second run would decide about this
        again = message_of(sent, {"ad_id": ad})
        await publisher.publish(again, exchange=sent.exchange, routing_key=sent.routing_key)
        await eventually(lambda: is_duplicate(log_lines))

    assert len(submitted.decisions(ad)) == 1
    assert submitted.row(ad)["auto_moderation_attempts"] == 1
    assert await runs.of(sent.message_id) == [row]


async def is_duplicate(log_lines: list[dict[str, Any]]) -> bool:
    return any(line.get("outcome") == "duplicate" for line in log_lines)


@pytest.mark.parametrize(
    "status", ["pending", "needs_review"]
)  # the second is also the new status, so that no change is seen
async def test_concurrent_messages_about_one_ad_decide_once(review: Review, submitted: Submitted, status: str):
    ad = submitted.add(PHONE, status=status)

    with psycopg.connect(submitted.database_url) as editor:
        editor.execute("SELECT FROM car_ads FOR UPDATE")
        both = [asyncio.create_task(review(ad)) for _ in range(2)]
        await eventually(lambda: waiting(submitted, count=2))
    rows = await asyncio.gather(*both)

    assert sorted(row["status"] for row in rows) == ["skipped", "succeeded"]
    assert len(submitted.decisions(ad)) == 1
    assert submitted.row(ad)["auto_moderation_attempts"] == 1


async def test_concurrent_deliveries_of_a_message_decide_once(review: Review, submitted: Submitted):
    ad = submitted.add(CLEAN)

    with psycopg.connect(submitted.database_url) as editor:
        editor.execute("SELECT FROM car_ads FOR UPDATE")
        both = [asyncio.create_task(review(ad, message_id="one")) for _ in range(2)]
        await eventually(lambda: waiting(submitted, count=2))
    await asyncio.gather(*both)

    assert [decision["action"] for decision in submitted.decisions(ad)] == ["approve"]
    assert set(submitted.sent()) == {"user.ad.approved", "ad.moderated"}


async def test_locked_ad_is_retried_later(review: Review, submitted: Submitted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", timedelta(milliseconds=100))
    ad = submitted.add(CLEAN)

    with psycopg.connect(submitted.database_url) as editor:
        editor.execute("SELECT FROM car_ads FOR UPDATE")
        with pytest.raises(RetryLater, match=f"ad {ad} is locked by another transaction"):
            await review(ad)

    assert submitted.row(ad)["status"] == "pending"


async def waiting(submitted: Submitted, *, count: int) -> bool:
    found = submitted.rows(
        "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return int(found[0]["n"]) >= count


async def test_decision_of_killed_consumer_is_taken_over_once(
    pocketwatch: Program, publisher: Publisher, runs: Runs, submitted: Submitted
):
    ad = submitted.add(PHONE)
    consumer = pocketwatch.start("consume", "moderation")
    await asyncio.to_thread(consumer.until, "consumers.started")

    with psycopg.connect(submitted.database_url) as holder:
        holder.execute("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE")  # the claim comes last
        holder.execute("SAVEPOINT here")
        sent = await trigger.publish(publisher, AdSubmitted(ad_id=ad))
        await eventually(lambda: waiting(submitted, count=1))
        consumer.kill()
    pocketwatch.start("consume", "moderation")

    row = await runs.over(sent.message_id, within=30)
    assert (row["status"], row["attempt"]) == ("succeeded", 1)
    assert len(submitted.decisions(ad)) == 1
    assert set(submitted.sent()) == {"user.ad.needs_edit", "ad.moderated"}
