"""Notices to owners: from the platform's envelope to the info table, the log and the requested email."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from consumers.moderation.notices import owners as user_notices
from pocketwatch.broker import dead_letters
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import MODERATION_USER_NOTICES
from schemas.mail import MailRequested
from tests.fixtures.people import Market, People, Row
from tests.fixtures.suite import Consume, Runs
from tests.support.waiting import eventually

MOMENT = datetime(2026, 11, 20, 14, 5, 0, 123456, tzinfo=UTC)
KEYS = {
    "auto_approved": "approved",
    "manually_approved": "approved",
    "auto_rejected": "rejected",
    "manually_rejected": "rejected",
    "flagged": "needs_edit",
    "needs_review": "needs_edit",
    "max_attempts_reached": "max_attempts",
}  # the rest is published as `unknown`


@pytest.fixture
async def consuming(consume: Consume, people: People) -> AsyncIterator[None]:
    async with consume(user_notices.notify_owner):
        yield


@pytest.fixture
def notify(market: Market, consuming: None, runs: Runs):
    async def notified(**data: Any) -> Row:
        """Publish a notice and return its row of the run log."""
        name = f"notice-{len(await runs.newest(limit=100))}"
        key = KEYS.get(data.get("action", "auto_approved"), "unknown")
        await market.owner(key, message_id=name, **data)
        return await runs.over(name)

    return notified


async def test_owner_is_notified_in_info_table_and_by_email(notify, people: People):
    owner = people.user("olha@example.com")
    ad = people.ad(owner, "Таврія, 1994")

    run = await notify(
        ad_id=ad,
        user_id=owner,
        action="flagged",
        status="needs_review",
        reason="У тексті є номер телефону",
        attempts_count=1,
        details={"categories": ["contacts"], "suggestions": ["Заберіть номер"]},
    )

    assert (run["status"], run["statistics"]) == (
        "succeeded",
        {"notifications": 1, "letters": 1, "letter": "ad_needs_edit", "locale": "uk"},
    )
    (notice,) = people.owner_notices()
    assert notice["title"] == f"✏️ Оголошення #{ad} «Таврія, 1994» потребує додаткової перевірки"
    assert notice["message"].splitlines() == [
        "Ваше оголошення потребує додаткової перевірки.",
        "Причина: У тексті є номер телефону",
        "Порада: Заберіть номер",
        "Залишилося спроб: 2 із 3.",
    ]
    assert (notice["user_id"], notice["ad_id"], notice["action"]) == (owner, ad, "flagged")
    assert (notice["message_id"], notice["read_at"]) == (run["message_id"], None)
    assert people.notices() == []
    assert notice["data"]["reason"] == "У тексті є номер телефону"
    (request,) = people.emails()
    assert (request["to"], request["locale"], request["user_id"]) == ("olha@example.com", "uk", owner)
    assert request["letter"] == {
        "name": "ad_needs_edit",
        "ad_id": ad,
        "ad_title": "Таврія, 1994",
        "occurred_at": "2026-11-20T14:05:00.123456Z",
        "reason": None,
        "reasons": ["У тексті є номер телефону", "Порада: Заберіть номер"],
        "link": f"http://localhost:3000/ads/{ad}",
        "attempts_left": 2,
        "max_attempts": 3,
    }
    assert MailRequested.model_validate_json(MailRequested.model_validate(request, strict=False).model_dump_json())


async def test_each_channel_has_a_log_row(notify, people: People):
    owner = people.user("olha@example.com", locale="en")

    run = await notify(ad_id=people.ad(owner), user_id=owner)

    (shown,), (mailed,) = people.log("info_table"), people.log("email")
    (request,) = people.emails()
    assert (shown["status"], shown["notification_id"], shown["letter"]) == ("sent", None, None)
    assert shown["recipient"] == "olha@example.com"
    assert (mailed["status"], mailed["notification_id"], mailed["letter"]) == ("pending", None, "ad_approved")
    assert (mailed["recipient"], mailed["locale"], mailed["attempts"]) == ("olha@example.com", "en", 0)
    assert mailed["key"] == request["key"] == f"{run['message_id']}:owner:olha@example.com:email"
    assert request["notification_id"] is None
    assert datetime.fromisoformat(request["expires_at"]) == MOMENT + timedelta(days=2)


EMAILS: dict[tuple[str, str | None], str] = {
    ("auto_approved", "active"): "ad_approved",
    ("manually_approved", "active"): "ad_approved",
    ("auto_rejected", "rejected"): "ad_rejected",
    ("manually_rejected", "rejected"): "ad_rejected",
    ("flagged", "needs_review"): "ad_needs_edit",
    ("needs_review", "needs_review"): "ad_needs_edit",
    ("max_attempts_reached", "inactive"): "ad_max_attempts",
    ("user_banned", "blocked"): "plain",
    ("content_violation", None): "plain",
    ("content_violation", "blocked"): "ad_status_changed",
    ("bulk_status_change", "archived"): "ad_status_changed",
    ("manual_status_change", "active"): "ad_approved",
    ("manual_status_change", "rejected"): "ad_rejected",
    ("manual_status_change", "needs_review"): "ad_needs_edit",
    **{
        ("manual_status_change", status): "ad_status_changed"
        for status in ("draft", "pending", "blocked", "sold", "archived", "inactive")
    },
}


async def test_each_action_and_status_has_its_email(notify, people: People):
    owner = people.user()
    ad = people.ad(owner)
    runs = {}

    for action, status in EMAILS:
        runs[action, status] = await notify(ad_id=ad, user_id=owner, action=action, status=status)

    assert {which: run["statistics"]["letter"] for which, run in runs.items()} == EMAILS
    emails = {request["key"].split(":")[0]: request["letter"] for request in people.emails()}
    for (_, status), run in runs.items():
        email = emails[run["message_id"]]
        assert email.get("status") == (status if email["name"] == "ad_status_changed" else None)
    assert len(people.owner_notices()) == len(EMAILS)


async def test_run_without_a_reader_states_the_reason(notify, people: People):
    owner, away = people.user(), people.user(active=False)
    usual = {"ad_id": people.ad(owner), "user_id": owner}
    cases: list[tuple[Row, str]] = [
        ({"action": "created", "status": "pending"}, "action created: not reported to owners"),
        ({"action": "manual_status_change", "status": None}, "action manual_status_change: not reported to owners"),
        ({"ad_id": 987, "user_id": None}, "owner unknown: the notice has no user_id, and its ad does not exist"),
        ({"user_id": 2**63 - 1}, f"user {2**63 - 1}: does not exist"),
        ({"user_id": away}, f"user {away}: not active"),
    ]

    ends = [await notify(**(usual | data)) for data, _ in cases]

    assert [(run["status"], run["error"]) for run in ends] == [("skipped", reason) for _, reason in cases]
    assert people.owner_notices() == people.emails() == people.log() == []


@pytest.mark.parametrize(
    ("address", "error"), [("", "no address"), ("no address", '"no address": not a valid email address')]
)
async def test_owner_without_address_gets_info_table_row_only(notify, people: People, address: str, error: str):
    owner = people.user(address)

    run = await notify(ad_id=people.ad(owner), user_id=owner)

    assert (run["status"], run["error"]) == ("partial", f"user {owner}: no valid email address")
    assert len(people.owner_notices()) == 1
    assert people.emails() == []
    (logged,) = people.log("email")
    assert (logged["status"], logged["recipient"], logged["error_message"]) == ("failed", "", error)


async def test_owner_without_info_table_gets_email_only(notify, people: People):
    owner = people.user(channels=["email"])

    await notify(ad_id=people.ad(owner), user_id=owner)

    assert people.owner_notices() == people.log("info_table") == []
    (request,) = people.emails()
    assert request["notification_id"] is None
    assert people.log("email")[0]["notification_id"] is None


async def test_email_preference_is_left_to_delivery(notify, people: People):
    owner = people.user(channels=[])

    await notify(ad_id=people.ad(owner), user_id=owner)

    assert [request["user_id"] for request in people.emails()] == [owner]


UKRAINIAN = ("uk", "✅ Оголошення #4711 «Lanos» схвалено")
RUSSIAN = ("ru", "✅ Объявление #4711 «Lanos» одобрено")
ENGLISH = ("en", "✅ Your ad #4711 «Lanos» is approved")


async def test_locale_is_that_of_notice_then_preferences_then_default(notify, people: People):
    default, russian = people.user("a@example.com"), people.user("b@example.com", locale="ru")
    ad = people.ad(default, "Lanos", number=4711)
    cases: list[tuple[int, Any, tuple[str, str]]] = [
        (default, {}, UKRAINIAN),
        (default, None, UKRAINIAN),
        (default, {"locale": 7}, UKRAINIAN),
        (default, {"locale": "EN-us"}, ENGLISH),
        (russian, {}, RUSSIAN),
        (russian, {"locale": "en"}, ENGLISH),
        (russian, {"locale": "de"}, RUSSIAN),
    ]

    for reader, details, _ in cases:
        await notify(ad_id=ad, user_id=reader, details=details)

    locales = [request["locale"] for request in people.emails()]
    titles = [notice["title"] for notice in people.owner_notices()]
    assert list(zip(locales, titles, strict=True)) == [expected for _, _, expected in cases]


async def test_notice_without_user_goes_to_owner_of_the_ad(notify, people: People):
    owner = people.user()

    await notify(ad_id=people.ad(owner), user_id=None)

    assert [notice["user_id"] for notice in people.owner_notices()] == [owner]


async def test_missing_ad_is_named_by_its_id(notify, people: People):
    owner = people.user()

    await notify(ad_id=4711, user_id=owner, action="manually_rejected", status="rejected")

    assert people.owner_notices()[0]["title"] == "❌ Оголошення #4711 відхилено"
    assert people.emails()[0]["letter"]["ad_title"] == "#4711"


async def test_64_bit_ids_are_stored(notify, people: People):
    owner = people.user()
    ad = people.ad(owner, number=2**40)

    await notify(ad_id=ad, user_id=owner)

    (notice,) = people.owner_notices()
    assert (notice["ad_id"], notice["data"]["ad_id"], notice["user_id"]) == (2**40, 2**40, owner)


async def test_bulk_change_lists_all_ads(notify, people: People):
    owner, other = people.user(), people.user()
    ads = [people.ad(owner, f"Ланос {number}") for number in range(3)]
    other_ad = people.ad(other, "Чуже авто")

    await notify(
        ad_id=ads[0],
        user_id=owner,
        action="bulk_status_change",
        status="archived",
        reason="Давно без змін",
        details={"affected_ads": [*ads, other_ad, str(ads[1]), None, True, -1, "9" * 5000]},
    )

    (request,) = people.emails()
    assert request["letter"]["name"] == "ad_status_changed"
    assert request["letter"]["reasons"] == [
        f"Оголошення (3): #{ads[0]} «Ланос 0», #{ads[1]} «Ланос 1», #{ads[2]} «Ланос 2»",
        "Давно без змін",
    ]
    assert people.owner_notices()[0]["title"] == f"Оголошення #{ads[0]} «Ланос 0» (+2) переміщено до архіву"


async def test_large_bulk_change_lists_first_ads_and_counts_the_rest(notify, people: People):
    owner = people.user(locale="en")
    ads = [people.ad(owner, f"Дуже довга назва оголошення, що не вміщується ніде {n}" * 3) for n in range(60)]

    await notify(
        ad_id=ads[0],
        user_id=owner,
        action="bulk_status_change",
        status="sold",
        details={"affected_ads": ads, "reasons": ["r"] * 30},
    )

    (request,) = people.emails()
    lines = request["letter"]["reasons"]
    assert lines[0].startswith(f"Ads (60): #{ads[0]} «Дуже")
    assert "and 10 more" in "".join(lines)
    assert all(f"#{ad} " in "".join(lines) for ad in ads[:50])
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 500


async def test_duplicate_notice_is_delivered_once(notify, market: Market, people: People, runs: Runs):
    owner = people.user()
    ad = people.ad(owner)
    first = await notify(ad_id=ad, user_id=owner)

    await market.owner(message_id=first["message_id"], ad_id=ad, user_id=owner)
    await market.owner(message_id="later", ad_id=ad, user_id=owner)
    await runs.over("later")

    assert len(people.owner_notices()) == len(people.emails()) == len(people.log()) == 2  # the first, and the later one
    assert len(await runs.of(first["message_id"])) == 1


async def test_notice_without_message_id_is_delivered(consuming: None, market: Market, people: People):
    owner = people.user()

    await market.owner(ad_id=people.ad(owner), user_id=owner)

    async def delivered() -> bool:
        return len(people.emails()) == 1

    await eventually(delivered)
    assert len(people.owner_notices()) == 1


async def test_overlong_and_unprintable_text_is_cleaned(notify, people: People):
    owner = people.user()
    ad = people.ad(owner, "Bad\r\nBcc: all@example.com\t title\x1b[0m")

    await notify(
        ad_id=ad,
        user_id=owner,
        action="auto_rejected",
        status="rejected",
        reason="x" * 9_000,
        details={"reasons": ["a\nb", " ", 7, {"no": "text"}], "categories": "spam", "suggestions": ["s"] * 40},
        attempts_count=9,
        max_attempts=None,
    )

    (request,) = people.emails()
    assert request["letter"]["ad_title"] == "Bad Bcc: all@example.com title [0m"
    assert request["letter"]["reasons"][:4] == ["x" * 499 + "…", "a b", "7", "Порада: s"]
    assert len(request["letter"]["reasons"]) == 20
    assert len(people.owner_notices()[0]["title"]) <= 200


async def test_reason_that_repeats_listed_reasons_is_dropped(notify, people: People):
    owner = people.user()

    await notify(
        ad_id=people.ad(owner),
        user_id=owner,
        action="flagged",
        reason="Є телефон. Є лайка.",
        details={"reasons": ["Є телефон.", "Є лайка."], "reason": "Є телефон. Є лайка."},
    )

    assert people.emails()[0]["letter"]["reasons"] == ["Є телефон.", "Є лайка."]


async def test_owner_is_not_asked_to_edit_during_manual_review(notify, people: People):
    owner = people.user()
    ad = people.ad(owner, "Lanos")

    await notify(ad_id=ad, user_id=owner, action="needs_review", details={"awaits_moderator": True})

    assert people.owner_notices()[0]["title"] == f"Оголошення #{ad} «Lanos» чекає на модератора"
    email = people.emails()[0]["letter"]
    assert (email["name"], email["status"]) == ("ad_status_changed", "needs_review")


async def test_owner_gets_categories_without_other_reasons(notify, people: People):
    owner = people.user()

    await notify(ad_id=people.ad(owner), user_id=owner, action="flagged", details={"categories": ["scam", "contacts"]})

    assert people.emails()[0]["letter"]["reasons"] == ["Категорії: scam, contacts"]


async def test_attempts_left_are_never_negative(notify, people: People):
    owner = people.user()

    await notify(ad_id=people.ad(owner), user_id=owner, action="flagged", attempts_count=5)

    assert people.emails()[0]["letter"]["attempts_left"] == 0


async def test_future_timestamp_of_notice_becomes_now(notify, people: People):
    """The platform's naive timestamps are local time if a time zone is set."""
    owner = people.user()
    before = datetime.now(UTC)

    await notify(ad_id=people.ad(owner), user_id=owner, timestamp="2126-01-01T00:00:00")

    (request,) = people.emails()
    occurred_at = datetime.fromisoformat(request["letter"]["occurred_at"])
    assert before - timedelta(minutes=1) < occurred_at < datetime.now(UTC) + timedelta(minutes=1)
    assert datetime.fromisoformat(request["expires_at"]) == occurred_at + timedelta(days=2)


POISON: dict[str, Row] = {
    "wrong-action": {"action": "exploded"},
    "wrong-status": {"status": "lost"},
    "text-for-a-number": {"ad_id": "4711"},
    "nul-in-the-reason": {"reason": "a\x00b"},
    "nul-in-the-details": {"details": {"reasons": [{"deep": ["a\x00b"]}]}},
    "infinite": {"details": {"score": float("inf")}},
    "year-one": {"timestamp": "0001-01-01T00:00:00+05:00"},
    "too-large": {"details": {"affected_ads": list(range(1, 20_000))}},
}
UNKNOWN: Row = {"user_id": 999_999}


async def test_invalid_notice_is_dead_lettered_without_its_batch(
    market: Market, consume: Consume, publisher: Publisher, people: People, runs: Runs
):
    owner = people.user()
    ad = people.ad(owner)
    for name, data in POISON.items():
        await market.owner(message_id=f"good-{name}", ad_id=ad, user_id=owner)
        await market.owner(message_id=name, **({"ad_id": ad, "user_id": owner} | data))
    await market.owner(message_id="unknown-owner", ad_id=ad, **UNKNOWN)
    await market.publish("user_notifications", "user.ad.approved", b"no JSON at all", "no-json")
    await market.publish("user_notifications", "user.ad.approved", {"data": {}}, "nothing-said")

    async with consume(user_notices.notify_owner):
        for name in [*POISON, "no-json", "nothing-said"]:
            assert (await runs.over(name))["status"] == "rejected"
        assert (await runs.over("unknown-owner"))["status"] == "skipped"
        for name in POISON:
            assert (await runs.over(f"good-{name}"))["status"] == "succeeded"

    dead = await dead_letters.fetch(publisher, MODERATION_USER_NOTICES, limit=100)
    assert {dead_letter.message_id for dead_letter in dead} == {*POISON, "no-json", "nothing-said"}
    assert len(people.owner_notices()) == len(people.emails()) == len(POISON)


async def test_many_notices_share_transactions(market: Market, consume: Consume, people: People):
    owners = [people.user() for _ in range(10)]
    ads = [people.ad(owner) for owner in owners]
    for number in range(300):
        which = number % 10
        await market.owner(message_id=f"n{number}", ad_id=ads[which], user_id=owners[which])

    async with consume(user_notices.notify_owner):

        async def all_delivered() -> bool:
            return len(people.owner_notices()) == 300

        await eventually(all_delivered, within=20)

    assert len(people.emails()) == 300
    assert len({row["key"] for row in people.rows("SELECT key FROM moderation_notification_logs")}) == 600
    (transactions,) = people.rows("SELECT count(DISTINCT xmin::text) AS number FROM owner_notifications")
    assert transactions["number"] <= 30
