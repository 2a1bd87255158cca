"""analytics.platform: each figure equals a plain count, in three languages."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from psycopg.rows import dict_row

from consumers.analytics.overview import localized, overview
from consumers.analytics.rollup import id_ranges
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from schemas.ticks import PlatformAnalytics
from tests.fixtures.activity import Activity, at
from tests.fixtures.banks import StoredRates
from tests.fixtures.suite import Deliver, Program
from tests.support.inserting import inserting
from tests.support.job_contexts import job_context

KYIV = ZoneInfo("Europe/Kyiv")
MAKES = {1: "ZAZ", 2: "Škoda", 3: "Mazda"}
REGIONS = {1: "Полтавська", 2: "Київ", 3: "Одеська область", 4: "Нова"}
PLACES = """
INSERT INTO ads_carmake (id, name, is_popular, vehicle_type_id) VALUES (2, 'Škoda', true, 1), (3, 'Mazda', true, 1);
INSERT INTO ads_region (id, name, code, country, is_active) VALUES (2, 'Київ', 'K', 'Ukraine', true),
  (3, 'Одеська область', 'O', 'Ukraine', true), (4, 'Нова', 'N', 'Ukraine', true);
"""
AD = """
INSERT INTO car_ads (created_at, updated_at, title, description, currency, price, dynamic_fields, is_validated,
  validation_errors, status, moderated_at, moderation_reason, auto_moderation_attempts, needs_manual_review, model,
  seller_type, geocode, is_favorite, use_profile_contacts, account_id, mark_id, city_id, region_id)
VALUES (%(created)s, now(), 'Таврія', '', %(currency)s, %(price)s, '{}', true, '{}', %(status)s, %(moderated)s, '', 0,
  false, '1102', %(seller)s, '', false, true, 1, %(make)s, 1, %(region)s) RETURNING id
"""
VIEW = """
INSERT INTO ad_views (created_at, ip_address, ad_id) SELECT %(at)s::timestamptz, '192.0.2.1', min(id) FROM car_ads
"""
DECISION = """
INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor, decided_at)
VALUES (%(ad)s, %(action)s, %(before)s, %(after)s, '', 'a moderator', %(at)s)
"""
QUARTILES = """
SELECT mark_id, count(*) AS ads, percentile_cont(0.25) WITHIN GROUP (ORDER BY uah) AS lower,
  percentile_cont(0.5) WITHIN GROUP (ORDER BY uah) AS median, percentile_cont(0.75) WITHIN GROUP (ORDER BY uah) AS upper
FROM (SELECT mark_id, status, price,
    (price * CASE upper(currency) WHEN 'UAH' THEN 1 WHEN 'USD' THEN 44 WHEN 'EUR' THEN 51.5 END)::float8 AS uah
  FROM car_ads) AS asked
WHERE status = 'active' AND price > 0 AND uah IS NOT NULL GROUP BY mark_id
"""


class Market:
    """Ads of every kind."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rows(PLACES)

    def ad(self, **values: Any) -> int:
        usual: dict[str, Any] = {
            "created": datetime.now(UTC) - timedelta(days=2),
            "currency": "USD",
            "price": 5000,
            "status": "active",
            "moderated": None,
            "seller": "private",
            "make": 1,
            "region": 1,
        }
        return int(self.rows(AD, usual | values)[0]["id"])

    def decided(self, ad: int, action: str, before: str, after: str, *, at: datetime) -> None:
        self.rows(DECISION, {"ad": ad, "action": action, "before": before, "after": after, "at": at})

    def rows(self, sql: str, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            cursor = connection.execute(sql.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def payload(self, locale: str) -> Any:
        (row,) = self.rows(
            "SELECT payload FROM analytics_snapshots WHERE kind = 'platform' AND locale = %(l)s", {"l": locale}
        )
        return row["payload"]


@pytest.fixture
def market(activity: Activity) -> Market:
    return Market(activity.database_url)


async def overview_at(moment: datetime, database: Database, settings: Settings, activity: Activity) -> Any:
    """The payload of a run at this moment."""
    work = job_context("analytics.platform", database, settings, now=moment)
    async with work.session:
        await overview.build_overview(PlatformAnalytics(locales=("en",)), work)
        await work.session.commit()
    (row,) = activity.rows("SELECT payload FROM analytics_snapshots ORDER BY id DESC LIMIT 1")
    return row["payload"]


def shown(payload: Any) -> dict[str, int]:
    """The figures of the front page."""
    return {name: figure["value"] for name, figure in payload["overview"].items()}


def ads_in(rows: list[dict[str, Any]], name: str = "ads") -> int:
    return sum(row[name] for row in rows)


def fill(market: Market) -> None:
    """Ads that differ in everything that is counted."""
    statuses = ("active", "active", "active", "sold", "pending", "rejected", "draft", "archived")
    for number in range(120):
        market.ad(
            created=datetime.now(UTC) - timedelta(days=number % 50, hours=number % 7),
            currency=("USD", "usd", "EUR", "UAH", "PLN")[number % 5],
            price=(None, 0, 1000 + 137 * number)[min(number % 9, 2)],
            status=statuses[number % len(statuses)],
            seller=("private", "dealer", "salon")[number % 3],
            make=1 + number % 3,
            region=1 + number % 4,
        )


async def test_each_figure_equals_a_plain_count(market: Market, rates: StoredRates, deliver: Deliver):
    fill(market)
    rates.add("USD", "43", days_old=3)
    rates.add("USD", "44", days_old=1)
    rates.add("USD", "45", source="PRIVATBANK", days_old=1)
    rates.add("EUR", "51.5", source="PRIVATBANK", days_old=2)

    row = await deliver(PlatformAnalytics())

    assert (row["status"], row["statistics"]["locales"]) == ("succeeded", 3)
    payload = market.payload("uk")
    count = market.rows(
        "SELECT mark_id, count(*) AS ads FROM car_ads WHERE status = 'active' GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    assert [(row["make_id"], row["ads"]) for row in payload["top_makes"]] == [(r["mark_id"], r["ads"]) for r in count]
    assert {row["make_id"]: row["make"] for row in payload["top_makes"]} == MAKES
    count = market.rows("SELECT region_id, count(*) AS ads FROM car_ads WHERE status = 'active' GROUP BY 1")
    assert {r["region_id"]: r["ads"] for r in payload["regions"]} == {r["region_id"]: r["ads"] for r in count}
    count = market.rows("SELECT status, count(*) AS ads FROM car_ads GROUP BY 1")
    assert {r["name"]: r["value"] for r in payload["ads_by_status"]} == {r["status"]: r["ads"] for r in count}
    plain = {r["mark_id"]: r for r in market.rows(QUARTILES)}
    assert {r["make_id"]: r["ads"] for r in payload["prices"]} == {make: r["ads"] for make, r in plain.items()}
    for found in payload["prices"]:
        expected = plain[found["make_id"]]
        assert found["quartiles"] == pytest.approx([expected["lower"], expected["median"], expected["upper"]], abs=0.01)
    assert {(r["currency"], Decimal(r["rate"]), r["source"]) for r in payload["rates"]} == {
        ("USD", Decimal(44), "NBU"),
        ("EUR", Decimal("51.5"), "PRIVATBANK"),
    }
    today = datetime.now(KYIV).date()
    assert {r["rate_date"] for r in payload["rates"]} == {
        str(today - timedelta(days=1)),
        str(today - timedelta(days=2)),
    }


async def test_impossible_prices_and_rates_are_ignored(market: Market, rates: StoredRates, deliver: Deliver):
    for price in ("NaN", -5, 0, None, "9999999999999.99", 100, 100):
        market.ad(price=price, currency="USD")
    market.ad(price=1, currency="???")
    rates.add("USD", "44", days_old=2)
    rates.add("USD", "0", days_old=1)
    rates.add("USD", "99", source="PRIVATBANK", days_old=1, is_active=False)

    row = await deliver(PlatformAnalytics(locales=("en",)))

    assert row["status"] == "succeeded", row["error"]
    (price,) = market.payload("en")["prices"]
    assert (price["ads"], price["quartiles"][:2]) == (3, [4400, 4400])


async def test_rows_without_a_usable_time_are_in_the_totals_only(
    market: Market, activity: Activity, database: Database, settings: Settings
):
    now = datetime.now(UTC)
    elsewhere = (None, "infinity", "-infinity", "2099-01-01")
    for moment in (now, *elsewhere):
        market.ad(created=moment)
        market.rows(VIEW, {"at": moment})

    payload = await overview_at(now, database, settings, activity)

    lately = payload["lately"]
    assert (shown(payload)["total_ads"], shown(payload)["total_views"]) == (5, 5)
    assert lately["views"]["value"] == ads_in(lately["views_by_day"], "views") == 1
    assert lately["ads"]["value"] == ads_in(lately["by_day"]) == payload["funnel"]["submitted"]["value"] == 1


async def test_rows_inserted_during_the_run_are_in_every_figure(
    market: Market, activity: Activity, database: Database, settings: Settings
):
    began = datetime.now(UTC)
    market.ad(created=datetime.now(UTC))

    payload = await overview_at(began, database, settings, activity)

    assert shown(payload)["today_ads"] == payload["lately"]["by_day"][-1]["ads"] == 1
    assert payload["funnel"]["submitted"]["value"] == 1


async def test_last_thirty_days_follow_the_business_time_zone(market: Market, deliver: Deliver):
    midnight = datetime.combine(datetime.now(KYIV).date() - timedelta(days=29), datetime.min.time(), tzinfo=KYIV)
    market.ad(created=midnight - timedelta(seconds=1))
    market.ad(created=midnight, status="sold", seller="dealer")
    market.ad(created=datetime.now(UTC) - timedelta(seconds=1))

    await deliver(PlatformAnalytics(locales=("en",)))

    lately = market.payload("en")["lately"]
    assert (lately["ads"]["value"], lately["since"], len(lately["by_day"])) == (2, str(midnight.date()), 30)
    assert lately["by_day"][0] == {"day": str(midnight.date()), "ads": 1, "text": "1"}
    assert {row["name"]: row["value"] for row in lately["by_status"]} == {"active": 1, "sold": 1}
    assert {row["label"] for row in lately["by_seller_type"]} == {"private seller", "dealer"}


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        ("2026-03-29T00:00+02:00", "2026-03-30T00:00+03:00"),  # 23 hours
        ("2026-10-25T00:00+03:00", "2026-10-26T00:00+02:00"),  # 25 hours
    ],
)
@pytest.mark.parametrize("days_later", [0, 28])
async def test_day_with_23_or_25_hours_holds_all_its_rows(
    database: Database, settings: Settings, activity: Activity, begins: str, ends: str, days_later: int
):
    """Whether it is the last closed one of the thirty days, or the first."""
    instant = timedelta(microseconds=1)
    first, after = at(begins), at(ends)
    for make in (activity.ads, activity.views):
        make(first - instant, first, first + timedelta(hours=2, minutes=30), after - instant, after)

    payload = await overview_at(after + timedelta(days=days_later), database, settings, activity)

    day = first.astimezone(KYIV).date()
    (plain,) = activity.days(day, day)
    lately = payload["lately"]
    assert {row["day"]: row["ads"] for row in lately["by_day"]}[str(day)] == plain["new_ads"] == 3
    assert {row["day"]: row["views"] for row in lately["views_by_day"]}[str(day)] == plain["views"] == 3
    assert (lately["since"] == str(day)) == (days_later == 28)
    assert lately["ads"]["value"] == ads_in(lately["by_day"]) == 5 - (days_later == 28)


async def test_funnel_counts_from_submitted_to_active_with_the_median_time(market: Market, deliver: Deliver):
    created = datetime.now(UTC) - timedelta(days=5)
    for minutes in (10, 20, 90):
        market.ad(created=created, moderated=created + timedelta(minutes=minutes))
    decided = market.ad(created=created, status="needs_review")
    market.decided(decided, "review", "pending", "needs_review", at=created + timedelta(hours=1))
    market.ad(created=created, status="pending")
    market.ad(created=created, status="draft")

    await deliver(PlatformAnalytics(locales=("en", "uk")))

    funnel = market.payload("en")["funnel"]
    assert [funnel[name]["value"] for name in ("submitted", "decided", "active")] == [5, 4, 3]
    assert funnel["median_time"] == {"value": 1200, "text": "20 minutes"}
    assert market.payload("uk")["funnel"]["median_time"]["text"] == "20 хвилин"


async def test_archive_is_not_a_decision(market: Market, deliver: Deliver):
    created, hour, day = datetime.now(UTC) - timedelta(days=20), timedelta(hours=1), timedelta(days=1)
    by_the_platform = market.ad(created=created, status="archived", moderated=created + hour)
    market.decided(by_the_platform, "archived", "rejected", "archived", at=created + day)
    by_the_rules = market.ad(created=created, status="archived", moderated=created + hour)
    market.decided(by_the_rules, "reject", "pending", "rejected", at=created + hour)
    market.decided(by_the_rules, "archived", "rejected", "archived", at=created + day)
    forgotten = market.ad(created=created, moderated=created + 2 * hour)
    market.decided(forgotten, "archived", "active", "archived", at=created + 9 * day)
    market.decided(forgotten, "restored", "archived", "active", at=created + 10 * day)

    await deliver(PlatformAnalytics(locales=("en",)))

    funnel = market.payload("en")["funnel"]
    assert [funnel[name]["value"] for name in ("submitted", "decided", "active")] == [3, 3, 1]
    assert funnel["median_time"]["value"] == 2 * 60 * 60


async def test_active_ads_without_a_decision_count_as_decided(market: Market, deliver: Deliver):
    created = datetime.now(UTC) - timedelta(days=5)
    for status in ("active", "sold", "archived", "pending", "rejected"):
        market.ad(created=created, status=status)
    market.ad(created=created, moderated=created + timedelta(minutes=7))

    await deliver(PlatformAnalytics(locales=("en",)))

    funnel = market.payload("en")["funnel"]
    assert [funnel[name]["value"] for name in ("submitted", "decided", "active")] == [6, 5, 4]
    assert funnel["median_time"]["value"] == 7 * 60


async def test_each_locale_has_its_numbers_and_names(market: Market, rates: StoredRates, deliver: Deliver):
    for _ in range(2):
        market.ad(region=3, price=1_234_567, currency="UAH")
    market.ad(region=4, price=1_234_567, currency="UAH")
    rates.add("USD", "44.6395")

    await deliver(PlatformAnalytics())

    found = {locale: market.payload(locale) for locale in ("uk", "en", "ru")}
    assert [row["name"] for row in found["uk"]["regions"]] == ["Одеська область", "Нова"]
    assert [row["name"] for row in found["en"]["regions"]] == ["Odesa", "Нова"]
    assert [row["name"] for row in found["ru"]["regions"]] == ["Одесская", "Нова"]
    prices = {locale: payload["prices"][0]["texts"][1] for locale, payload in found.items()}
    assert {locale: "".join(text.split()) for locale, text in prices.items()} == {
        "uk": "1234567₴",
        "en": "1,234,567UAH",
        "ru": "1234567₴",
    }
    assert {payload["prices"][0]["quartiles"][1] for payload in found.values()} == {1_234_567}
    assert found["uk"]["rates"][0]["text"] == "44,6395"


async def test_every_number_has_its_text(market: Market, activity: Activity, rates: StoredRates, deliver: Deliver):
    fill(market)
    rates.add("USD", "44.6395")
    activity.views(datetime.now(UTC), count=1_234)

    await deliver(PlatformAnalytics())

    for locale, text in (("uk", "1\xa0234"), ("en", "1,234"), ("ru", "1\xa0234")):
        payload = market.payload(locale)
        assert payload["lately"]["views"] == {"value": 1_234, "text": text}
        assert payload["lately"]["views_by_day"][-1]["text"] == text
        assert not list(without_text(payload))


def without_text(part: Any) -> Iterator[Any]:
    """Objects that hold a number, other than an id, and no text beside it."""
    if isinstance(part, list):
        for each in part:
            yield from without_text(each)
    elif isinstance(part, dict):
        numbers = [name for name, value in part.items() if isinstance(value, int | float) and not name.endswith("_id")]
        if numbers and not {"text", "texts"} & part.keys():
            yield part
        for each in part.values():
            yield from without_text(each)


async def test_failed_locale_leaves_the_others_stored(
    market: Market, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
):
    market.ad()
    present = localized.present

    def refusing(figures: Any, locale: str) -> Any:
        if locale == "en":
            raise ValueError("no words for this")
        return present(figures, locale)

    monkeypatch.setattr(f"{overview.__name__}.present", refusing)

    row = await deliver(PlatformAnalytics())
    none_left = await deliver(PlatformAnalytics(locales=("en",)))

    assert (row["status"], row["error"]) == ("partial", "locales that could not be presented: en")
    assert (row["statistics"]["locales"], row["statistics"]["locales_failed"]) == (2, 1)
    assert none_left["status"] == "failed"
    assert none_left["error"] == "no locale could be presented: en; see analytics.localize_failed in the log"
    kept = market.rows("SELECT locale FROM analytics_snapshots ORDER BY locale")
    assert [row["locale"] for row in kept] == ["ru", "uk"]


async def test_deleted_ads_leave_every_figure(
    market: Market, activity: Activity, database: Database, settings: Settings
):
    now = datetime.now(UTC)
    deleted, staying = market.ad(make=2, region=2), market.ad()
    activity.views(now - timedelta(days=1), count=id_ranges.SIZE, ad=deleted)
    activity.views(now, count=5, ad=staying)
    before = await overview_at(now, database, settings, activity)
    activity.delete_ad(deleted)

    after = await overview_at(now + timedelta(minutes=1), database, settings, activity)

    assert (shown(before)["total_views"], shown(after)["total_views"]) == (id_ranges.SIZE + 5, 5)
    assert shown(after) == activity.counts(now.astimezone(KYIV).date())
    assert (before["lately"]["views"]["value"], after["lately"]["views"]["value"]) == (id_ranges.SIZE + 5, 5)
    assert after["views_per_ad"]["all_time"]["value"] == 5
    assert [[row["make"] for row in payload["top_makes"]] for payload in (before, after)] == [["ZAZ", "Škoda"], ["ZAZ"]]
    assert [row["region"] for row in after["regions"]] == ["Полтавська"]
    assert after["lately"]["ads"]["value"] == after["funnel"]["submitted"]["value"] == 1


async def test_all_figures_are_of_one_snapshot_during_inserts(
    market: Market, activity: Activity, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    """Each writer commits an ad, a view and a user together: in any one snapshot there are as many of each."""
    monkeypatch.setattr(id_ranges, "OPEN_FOR", timedelta(seconds=2))
    activity.run("DELETE FROM add_accounts WHERE id > 1; DELETE FROM auth_user WHERE id > 1")
    ad = market.ad(created=datetime.now(UTC))
    activity.views(datetime.now(UTC), ad=ad)
    activity.run(f"SELECT setval(pg_get_serial_sequence('ad_views', 'id'), {id_ranges.SIZE - 300})")

    found = []
    with inserting(activity.database_url, like=ad):
        while len(found) < 10 or not activity.view_counts():
            found.append(await overview_at(datetime.now(UTC), database, settings, activity))
    at_rest = await overview_at(datetime.now(UTC), database, settings, activity)

    for payload in found:
        figures, lately = shown(payload), payload["lately"]
        assert figures["total_views"] == figures["total_users"] == figures["total_ads"]
        assert ads_in(payload["ads_by_status"], "value") == figures["total_ads"]
        assert ads_in(payload["top_makes"]) == ads_in(payload["regions"]) == figures["active_ads"]
        assert lately["views_by_day"][-1]["views"] == figures["today_views"] == figures["today_ads"]
        assert lately["ads"]["value"] == ads_in(lately["by_day"]) == ads_in(lately["by_seller_type"], "value")
    assert shown(found[0])["total_ads"] < shown(found[-1])["total_ads"]
    assert shown(at_rest) == activity.counts(datetime.now(KYIV).date())


async def test_concurrent_runs_find_the_same(
    market: Market, activity: Activity, database: Database, settings: Settings
):
    fill(market)
    now = datetime.now(UTC)
    activity.views(now - timedelta(days=2), now - timedelta(days=1), count=15_000)

    await asyncio.gather(
        overview_at(now, database, settings, activity),
        overview_at(now + timedelta(seconds=1), database, settings, activity),
    )

    first, second = (row["payload"] for row in activity.rows("SELECT payload FROM analytics_snapshots"))
    assert first == second
    assert shown(first) == activity.counts(now.astimezone(KYIV).date())
    assert ads_in(first["lately"]["views_by_day"], "views") == 30_000


async def test_empty_platform_has_an_overview(market: Market, deliver: Deliver):
    row = await deliver(PlatformAnalytics(locales=("uk",)))

    assert row["status"] == "succeeded"
    payload = market.payload("uk")
    assert (payload["top_makes"], payload["prices"], payload["ads_by_status"]) == ([], [], [])
    assert payload["views_per_ad"]["all_time"] == {"value": None, "text": None}
    assert payload["funnel"]["median_time"] == {"value": None, "text": None}


async def test_overview_is_shown_as_tables_and_as_json(market: Market, deliver: Deliver, pocketwatch: Program):
    market.ad()
    missing = pocketwatch("analytics", "show", "platform")
    await deliver(PlatformAnalytics(locales=("en",)))

    shown = pocketwatch("analytics", "show", "platform", "--locale", "en")
    read = pocketwatch("analytics", "show", "platform", "--locale", "en", "--json")

    assert missing.stderr == (
        "pocketwatch: snapshot platform: not generated yet; run: pocketwatch trigger analytics.platform --wait\n"
    )
    assert shown.returncode == 0, shown.stderr
    assert "private seller" not in shown.stdout
    assert "ZAZ" in shown.stdout
    assert "Poltava" in shown.stdout
    assert json.loads(read.stdout)["payload"]["overview"]["total_ads"] == {"value": 1, "text": "1"}
    assert pocketwatch("analytics", "show", "plattform").stderr == (
        'pocketwatch: kind "plattform" does not exist; did you mean "platform"?\n'
    )
