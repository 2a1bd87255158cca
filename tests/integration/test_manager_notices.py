"""Notices to managers: who is notified of what, on which channels, and only once."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from consumers.moderation.notices import managers
from pocketwatch.broker import dead_letters
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import MODERATION_MANAGER_NOTICES
from tests.fixtures.people import Market, People, Row
from tests.fixtures.suite import Consume, Runs
from tests.support.waiting import eventually

FLAGGED: Row = {"action": "flagged", "status": "needs_review"}
KEYS = {"needs_review": "review_required", "flagged": "flagged", "max_attempts_reached": "max_attempts"}


@pytest.fixture
async def consuming(consume: Consume, people: People) -> AsyncIterator[None]:
    async with consume(managers.notify_managers):
        yield


@pytest.fixture
def notify(market: Market, consuming: None, runs: Runs):
    async def notified(data: Row = FLAGGED, **restricted: Any) -> Row:
        """Publish a notice and return its row of the run log."""
        name = f"notice-{len(await runs.newest(limit=100))}"
        await market.managers(KEYS.get(data["action"], "unknown"), message_id=name, data=data, **restricted)
        return await runs.over(name)

    return notified


async def test_manager_is_notified_in_info_table_and_by_email(notify, people: People):
    owner, manager = people.user(locale="ru"), people.manager("boss@example.com")
    ad = people.ad(owner, "Таврія, 1994")

    run = await notify(
        {
            **FLAGGED,
            "ad_id": ad,
            "reason": "Схоже на шахрайство",
            "attempts_count": 2,
            "details": {"locale": "ru", "categories": ["scam"]},
        }
    )

    assert (run["status"], run["statistics"]) == ("succeeded", {"managers": 1, "notifications": 1, "letters": 1})
    (notice,) = people.notices()
    assert notice["title"] == f"⚠️ Оголошення #{ad} «Таврія, 1994» помічено для перевірки"
    assert notice["message"].splitlines() == [
        f"Власник: #{owner}.",
        "Статус: потребує перевірки.",
        "Використано спроб: 2 із 3.",
        "Причина: Схоже на шахрайство",
        "Категорії: scam",
    ]
    assert (notice["manager_id"], notice["audience"], notice["status"]) == (manager, "manager", "pending")
    assert (notice["ad_id"], notice["user_id"], notice["action"]) == (ad, owner, "ad_flagged")
    assert (notice["priority"], notice["data"]["attempts_count"]) == (8, 2)
    (request,) = people.emails()
    assert (request["to"], request["locale"], request["user_id"]) == ("boss@example.com", "uk", manager)
    assert (request["letter"]["name"], request["letter"]["ad_title"]) == ("manager_ad_flagged", "Таврія, 1994")
    assert request["letter"]["reasons"] == ["Схоже на шахрайство"]
    assert (request["letter"]["categories"], request["letter"]["user_id"]) == (["scam"], owner)
    assert request["letter"]["link"] == f"http://localhost:3000/admin/ads/carad/{ad}/change/"
    (shown,), (mailed,) = people.log("info_table"), people.log("email")
    assert (shown["status"], mailed["status"]) == ("sent", "pending")
    assert shown["notification_id"] == mailed["notification_id"] == request["notification_id"] == notice["id"]
    assert mailed["key"] == request["key"] == f"{run['message_id']}:manager:boss@example.com:email"


async def test_each_manager_is_notified_by_their_settings(notify, people: People):
    day = people.manager("day@example.com")
    night = people.manager(
        "night@example.com", wants=["ad_max_attempts"], table=False, override="shift@example.com", locale="en"
    )
    ad = people.ad(people.user(), "Lanos")

    await notify({"action": "max_attempts_reached", "status": "rejected", "ad_id": ad})
    await notify({"action": "needs_review", "status": "needs_review", "ad_id": ad})

    assert [(notice["manager_id"], notice["title"]) for notice in people.notices()] == [
        (day, f"🚨 Потрібна ручна перевірка оголошення #{ad} «Lanos»"),
        (day, f"📋 Оголошення #{ad} «Lanos» потребує перевірки"),
    ]
    emails = [(one["to"], one["locale"], one["letter"]["name"], one["user_id"]) for one in people.emails()]
    assert emails == [
        ("day@example.com", "uk", "manager_max_attempts", day),
        ("day@example.com", "uk", "manager_review_required", day),
        ("shift@example.com", "en", "manager_max_attempts", night),
    ]
    assert people.emails()[-1]["notification_id"] is None


async def test_only_active_staff_with_active_settings_is_notified(notify, people: People):
    people.manager(active=False)
    people.manager(staff=False)
    people.manager(settings_active=False)
    people.manager(email=False, table=False)
    people.user(staff=True)  # without settings
    people.manager("emails@example.com", table=False)
    table = people.manager("table@example.com", email=False)
    people.manager("preferring@example.com", channels=["email"])

    run = await notify({**FLAGGED, "ad_id": people.ad(people.user())})

    assert run["statistics"] == {"managers": 3, "notifications": 1, "letters": 2}
    assert [notice["manager_id"] for notice in people.notices()] == [table]
    assert [request["to"] for request in people.emails()] == ["emails@example.com", "preferring@example.com"]


async def test_settings_accept_any_spelling_of_an_action(notify, people: People):
    for number, wants in enumerate(
        (["flagged"], ["AD_FLAGGED"], ["ad-flagged"], ["manager.ad.flagged"], [" Flagged "], ["sold", "flagged"])
    ):
        people.manager(f"{number}@example.com", wants=wants)
    people.manager("other@example.com", wants=["ad_needs_review", "max_attempts"])
    people.manager("nothing-known@example.com", wants=["bogus"])

    await notify({**FLAGGED, "ad_id": people.ad(people.user())})

    assert [request["to"] for request in people.emails()] == [f"{number}@example.com" for number in range(6)]


async def test_malformed_settings_subscribe_to_all_actions(notify, people: People):
    manager = people.user("odd@example.com", staff=True)
    settings = people.settings(manager, wants={"actions": ["max_attempts"]})
    numbers = people.settings(people.user("numbers@example.com", staff=True), wants=[1, 2])
    nothing = people.settings(people.user("null@example.com", staff=True), wants=None)

    run = await notify({**FLAGGED, "ad_id": people.ad(people.user())})

    assert run["statistics"]["settings_without_list_of_actions"] == [settings, numbers, nothing]
    assert [request["to"] for request in people.emails()] == [
        "null@example.com",
        "numbers@example.com",
        "odd@example.com",
    ]


async def test_shared_address_gets_one_email(notify, people: People):
    people.manager("a@example.com", override="Team@Example.com")
    people.manager("b@example.com", override=" team@example.com ")
    people.manager("team@example.com")

    run = await notify({**FLAGGED, "ad_id": people.ad(people.user())})

    assert run["statistics"] == {"managers": 3, "notifications": 3, "letters": 1}
    assert [request["to"] for request in people.emails()] == ["Team@example.com"]


async def test_log_of_shared_email_refers_to_a_row_of_any_recipient(notify, people: People):
    people.manager("first@example.com", table=False, override="team@example.com")
    people.manager("second@example.com", override="team@example.com")

    await notify({**FLAGGED, "ad_id": people.ad(people.user())})

    (notice,), (mailed,) = people.notices(), people.log("email")
    assert (mailed["recipient"], mailed["notification_id"]) == ("team@example.com", notice["id"])


async def test_two_settings_of_one_manager_make_one_row(notify, people: People):
    people.execute(
        "ALTER TABLE moderation_manager_notification_settings "
        "DROP CONSTRAINT moderation_manager_notification_settings_manager_id_key"
    )
    manager = people.manager("a@example.com")
    people.settings(manager, override="not an address")
    people.settings(manager, override="neither is this")

    run = await notify({**FLAGGED, "ad_id": people.ad(people.user())})

    assert run["statistics"] == {"managers": 1, "notifications": 1, "letters": 1}
    assert sorted((row["recipient"], row["status"], row["error_message"]) for row in people.log("email")) == [
        ("", "failed", '"neither is this": not a valid email address'),
        ("", "failed", '"not an address": not a valid email address'),
        ("a@example.com", "pending", ""),
    ]


async def test_run_without_readers_states_the_reason(notify, people: People):
    away = people.manager(active=False)
    choosy = people.manager(wants=["ad_max_attempts"])
    settings = people.rows("SELECT id, manager_id FROM moderation_manager_notification_settings ORDER BY id")
    ad = {"ad_id": people.ad(people.user())}
    cases: list[tuple[Row, Row, str, str]] = [
        (FLAGGED, {}, "partial", "action flagged: no manager is subscribed to it"),
        ({"action": "created"}, {}, "skipped", "action created: no manager is subscribed to it"),
        (
            FLAGGED,
            {"manager_id": away},
            "skipped",
            f"manager {away}: not active staff with active notification settings",
        ),
        (
            FLAGGED,
            {"settings_id": settings[1]["id"]},
            "skipped",
            f"settings {settings[1]['id']}: not subscribed to flagged on the requested channels",
        ),
        (
            {"action": "max_attempts_reached"},
            {"manager_id": choosy, "channels": []},
            "skipped",
            f"manager {choosy}: not subscribed to max_attempts_reached on the requested channels",
        ),
    ]

    ends = [await notify({**data, **ad}, **restricted) for data, restricted, _, _ in cases]

    assert [(run["status"], run["error"]) for run in ends] == [(status, error) for _, _, status, error in cases]
    assert people.notices() == people.emails() == []


async def test_manager_without_any_working_channel_makes_run_partial(notify, people: People):
    people.manager("nonsense", table=False)

    run = await notify({**FLAGGED, "ad_id": people.ad(people.user())})

    assert (run["status"], run["statistics"]["letters"]) == ("partial", 0)
    assert [(row["status"], row["recipient"], row["error_message"]) for row in people.log()] == [
        ("failed", "", '"nonsense": not a valid email address')
    ]


async def test_64_bit_ids_are_stored_in_data_only(notify, people: People):
    people.manager()
    ad = people.ad(people.user(), number=2**40)

    await notify({**FLAGGED, "ad_id": ad})

    (notice,) = people.notices()
    assert (notice["ad_id"], notice["data"]["ad_id"]) == (None, 2**40)


async def test_row_without_any_fact_repeats_its_title_as_message(notify, people: People):
    people.manager(locale="en")

    await notify({"action": "created", "status": None})

    (notice,) = people.notices()
    assert notice["title"] == notice["message"] == "New ad ?"


async def test_notice_may_name_manager_channel_and_texts(notify, people: People):
    people.manager("all@example.com")
    one = people.manager("one@example.com")
    ad = people.ad(people.user(), "Lanos")

    await notify(
        {**FLAGGED, "ad_id": ad},
        manager_id=one,
        channels=["info_table"],
        title="Слова платформи",
        message="Та її\nтекст",
    )

    (notice,) = people.notices()
    assert (notice["manager_id"], notice["title"], notice["message"]) == (one, "Слова платформи", "Та її\nтекст")
    assert people.emails() == []


async def test_notice_without_ad_becomes_a_plain_email(notify, people: People):
    manager, banned = people.manager(locale="en"), people.user()

    await notify({"action": "user_banned", "status": "blocked", "user_id": banned, "reason": "Spam"})

    (notice,) = people.notices()
    assert (notice["manager_id"], notice["title"]) == (manager, f"⛔ User #{banned} is blocked")
    assert (notice["ad_id"], notice["user_id"], notice["action"]) == (None, banned, "user_banned")
    (request,) = people.emails()
    assert request["letter"] == {
        "name": "plain",
        "subject": f"⛔ User #{banned} is blocked",
        "paragraphs": [f"Owner: #{banned}.", "Status: blocked.", "Reason: Spam"],
        "occurred_at": "2026-11-20T14:05:00.123456Z",
        "link": None,
    }


async def test_each_action_has_its_email_and_row(notify, people: People):
    people.manager()
    ad = people.ad(people.user())
    emails = {
        "needs_review": ("manager_review_required", "ad_needs_review"),
        "flagged": ("manager_ad_flagged", "ad_flagged"),
        "max_attempts_reached": ("manager_max_attempts", "ad_max_attempts"),
    }
    others = ("created", "auto_approved", "auto_rejected", "manually_approved", "manually_rejected")
    others += ("manual_status_change", "bulk_status_change")
    expected = emails | dict.fromkeys(others, ("manager_ad_event", "ad_needs_review"))
    expected |= {action: ("manager_ad_event", action) for action in ("user_banned", "content_violation")}

    for action in expected:
        assert (await notify({"action": action, "status": "archived", "ad_id": ad}))["status"] == "succeeded"

    found = [
        (request["letter"]["name"], notice["action"])
        for request, notice in zip(people.emails(), people.notices(), strict=True)
    ]
    assert found == list(expected.values())
    assert [notice["data"]["action"] for notice in people.notices()] == list(expected)


async def test_duplicate_notice_is_delivered_once(notify, market: Market, people: People, runs: Runs):
    people.manager()
    data = {**FLAGGED, "ad_id": people.ad(people.user())}
    first = await notify(data)

    await market.managers(message_id=first["message_id"], data=data)
    await market.managers(message_id="later", data=data)
    await runs.over("later")

    assert len(people.notices()) == len(people.emails()) == len(people.log()) == 2  # the first, and the later one


async def test_notice_without_message_id_is_delivered(consuming: None, market: Market, people: People):
    people.manager()

    await market.managers(data={**FLAGGED, "ad_id": people.ad(people.user())})

    async def delivered() -> bool:
        return len(people.emails()) == 1

    await eventually(delivered)


async def test_invalid_notice_is_dead_lettered_without_its_batch(
    market: Market, consume: Consume, publisher: Publisher, people: People, runs: Runs
):
    people.manager()
    data = {**FLAGGED, "ad_id": people.ad(people.user())}
    poison: dict[str, tuple[Row, Row]] = {
        "wrong-action": ({"action": "exploded"}, {}),
        "wrong-status": ({"status": "lost"}, {}),
        "text-for-a-number": ({"ad_id": "1"}, {}),
        "nul": ({"reason": "a\x00b"}, {}),
        "for-owners": ({}, {"notification_type": "user_moderation"}),
        "too-urgent": ({}, {"priority": 99_999}),
        "other-channel": ({}, {"channels": ["pigeon"]}),
        "too-long": ({}, {"title": "x" * 201}),
    }
    for name, (wrong, restricted) in poison.items():
        await market.managers(message_id=f"good-{name}", data=data)
        await market.managers(message_id=name, data=data | wrong, **restricted)

    async with consume(managers.notify_managers):
        for name in poison:
            assert (await runs.over(name))["status"] == "rejected"
            assert (await runs.over(f"good-{name}"))["status"] == "succeeded"

    dead = await dead_letters.fetch(publisher, MODERATION_MANAGER_NOTICES, limit=100)
    assert {dead_letter.message_id for dead_letter in dead} == set(poison)
    assert len(people.notices()) == len(people.emails()) == len(poison)


async def test_many_notices_share_transactions(market: Market, consume: Consume, people: People):
    for _ in range(3):
        people.manager()
    ads = [people.ad(people.user()) for _ in range(10)]
    for number in range(300):
        await market.managers(message_id=f"n{number}", data={**FLAGGED, "ad_id": ads[number % 10]})

    async with consume(managers.notify_managers):

        async def all_delivered() -> bool:
            return len(people.notices()) == 900

        await eventually(all_delivered, within=30)

    assert len(people.emails()) == 900
    assert len({row["key"] for row in people.rows("SELECT key FROM moderation_notification_logs")}) == 1800
    (transactions,) = people.rows("SELECT count(DISTINCT xmin::text) AS number FROM moderation_notifications")
    assert transactions["number"] <= 30


async def test_batches_of_manager_notices_are_small(consume: Consume, market: Market, people: People, runs: Runs):
    people.manager("boss@example.com", email=False)
    for number in range(60):
        await market.managers(message_id=f"notice-{number}", data=FLAGGED)

    async with consume(managers.notify_managers):
        for number in range(60):
            await runs.over(f"notice-{number}")

    groups = people.rows("SELECT count(*) AS notices FROM moderation_notifications GROUP BY xmin::text")
    assert sum(group["notices"] for group in groups) == 60
    assert max(group["notices"] for group in groups) <= managers.MAX_BATCH_SIZE
