"""A marketplace in bulk, by COPY: ads of two years with their views, as a site that has grown so far has them.

Views come in the order of their time, as a site writes them, some of them late; an ad has its own soon after it was
made.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

MAKES, REGIONS = 60, 25
SPAN = timedelta(days=730)
UNDECIDED = ("draft", "pending")
FASTEST_REVIEW = timedelta(minutes=1)
STATUSES = (
    ("active",) * 35 + ("sold",) * 20 + ("archived",) * 30 + ("rejected",) * 6 + ("draft",) * 4 + ("pending",) * 5
)
CURRENCIES = (("USD", 1), ("usd", 1), ("EUR", 0.9), ("UAH", 41))
SELLERS = ("private", "private", "private", "dealer", "salon")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:132.0) Gecko/20100101 Firefox/132.0 (marketplace)",
)
NULL = r"\N"
USERS_PER_AD = 0.2
SEEN_FOR = 1 / 12  # of the span: an ad is looked at in the two months after it was made, mostly in the first weeks

PARENTS = f"""
INSERT INTO ads_vehicletype (id, name, slug, is_popular, is_active, sort_order) VALUES (1, 'car', 'car', true, true, 0);
INSERT INTO ads_carmake (id, name, is_popular, vehicle_type_id)
  SELECT n, 'Make ' || n, n <= 10, 1 FROM generate_series(1, {MAKES}) AS n;
INSERT INTO ads_region (id, name, code, country, is_active)
  SELECT n, 'Область ' || n, 'R' || n, 'Ukraine', true FROM generate_series(1, {REGIONS}) AS n;
INSERT INTO ads_city (id, name, is_regional_center, is_active, region_id)
  SELECT n, 'Місто ' || n, true, true, n FROM generate_series(1, {REGIONS}) AS n;
INSERT INTO currency_rates (base_currency, target_currency, rate, source, rate_date, is_active, fetched_at, created_at,
    updated_at)
  SELECT 'UAH', currency, rate, 'NBU', current_date, true, now(), now(), now()
  FROM (VALUES ('USD', 41.5), ('EUR', 45.1)) AS rates (currency, rate);
"""
USERS = "COPY auth_user (id, password, created_at, updated_at, email, is_active, is_staff, is_superuser) FROM STDIN"
ACCOUNTS = (
    "COPY add_accounts (id, created_at, updated_at, account_type, moderation_level, role, organization_name, "
    "stats_enabled, user_id) FROM STDIN"
)
ADS = (
    "COPY car_ads (id, created_at, updated_at, title, description, price, currency, dynamic_fields, is_validated, "
    "validation_errors, status, moderated_at, moderation_reason, auto_moderation_attempts, needs_manual_review, model, "
    "seller_type, geocode, is_favorite, use_profile_contacts, account_id, mark_id, city_id, region_id) FROM STDIN"
)
# Every decision is in the moderation log.
DECISIONS = """
INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor, decided_at)
  SELECT id, verdict, 'pending', CASE verdict WHEN 'reject' THEN 'rejected' ELSE 'active' END, '', 'rules', moderated_at
  FROM (SELECT id, moderated_at, CASE status WHEN 'rejected' THEN 'reject' ELSE 'approve' END AS verdict FROM car_ads
    WHERE moderated_at IS NOT NULL) AS decided ORDER BY id
"""
VIEWS = "COPY ad_views (id, created_at, updated_at, ip_address, user_agent, session_key, ad_id) FROM STDIN"
DROP_INDEX = "DROP INDEX ad_views_ad_id_605f0ac9"  # created again at the end, which is faster than row by row
MAKE_INDEX = "CREATE INDEX ad_views_ad_id_605f0ac9 ON ad_views (ad_id)"
SEQUENCES = ("auth_user", "add_accounts", "car_ads", "ad_views")
# Foreign keys would be checked row by row; these rows are valid.
UNCHECKED = "SET session_replication_role = replica"


@dataclass(frozen=True)
class Marketplace:
    """Numbers of ads and views. Equal sizes give equal rows, except for the day on which they end."""

    ads: int
    views: int

    @property
    def users(self) -> int:
        return max(int(self.ads * USERS_PER_AD), 1)


def fill(url: str, size: Marketplace) -> None:
    """Insert the rows into empty tables."""
    chance, now = random.Random(1), datetime.now(UTC)  # noqa: S311  the same rows each time, no secret
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(UNCHECKED)
        cursor.execute("TRUNCATE auth_user, currency_rates CASCADE")
        cursor.execute(PARENTS.encode())
        cursor.execute(DROP_INDEX)
        for statement, rows in (
            (USERS, users(size, chance, now)),
            (ACCOUNTS, accounts(size, chance, now)),
            (ADS, ads(size, chance, now)),
            (VIEWS, views(size, chance, now)),
        ):
            with cursor.copy(statement.encode()) as copy:
                for row in rows:
                    copy.write(row.encode())
        cursor.execute(MAKE_INDEX)
        cursor.execute(DECISIONS.encode())
        for table in SEQUENCES:
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), greatest(max(id), 1)) FROM {table}".encode()
            )


def users(size: Marketplace, chance: random.Random, now: datetime) -> Iterator[str]:
    for n, moment in moments(size.users, now):
        yield line(n, "", moment, moment, f"user{n}@example.com", "f" if chance.random() < 0.08 else "t", "f", "f")


def accounts(size: Marketplace, chance: random.Random, now: datetime) -> Iterator[str]:
    for n, moment in moments(size.users, now):
        kind = "PREMIUM" if chance.random() < 0.07 else "BASIC"
        yield line(n, moment, moment, kind, "AUTO", "seller", "", "t", n)


def ads(size: Marketplace, chance: random.Random, now: datetime) -> Iterator[str]:
    for n, moment in moments(size.ads, now):
        make, place, account = 1 + int(chance.random() ** 2 * MAKES), 1 + n % REGIONS, 1 + n % size.users
        currency, factor = CURRENCIES[n % len(CURRENCIES)]
        price = round((2000 + 40_000 * chance.random() ** 2) * factor, 2)
        seller, status = SELLERS[n % len(SELLERS)], chance.choice(STATUSES)
        text = f"Make {make}, one owner, serviced, new tyres. Number {n} in the list."
        decided = NULL if status in UNDECIDED else moment + FASTEST_REVIEW * (1 + n % 120)
        yield line(
            n, moment, moment, f"Make {make} {n}", text, price, currency, '{"year": 2015}', "t", "{}", status, decided,
            "", 0, "f", f"Model {n % 20}", seller, "", "f", "t", account, make, place, place,
        )  # fmt: skip


def views(size: Marketplace, chance: random.Random, now: datetime) -> Iterator[str]:
    for n, moment in moments(size.views, now, late=chance):
        newest = 1 + (n - 1) * size.ads // size.views
        ad = newest - int(chance.random() ** 2 * min(newest, size.ads * SEEN_FOR))
        address = f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
        yield line(n, moment, moment, address, AGENTS[n % len(AGENTS)], f"{n:032x}", ad)


def moments(count: int, now: datetime, *, late: random.Random | None = None) -> Iterator[tuple[int, datetime]]:
    """Yield a number and a time for each row, spread over the span; one in a thousand is some days late."""
    start, step = now - SPAN, SPAN / count
    for n in range(1, count + 1):
        moment = start + step * n
        if late and late.random() < 0.001:
            moment -= timedelta(days=3 * late.random())
        yield n, moment


def line(*values: Any) -> str:
    """Return a row of COPY's text format; none of the values needs escaping."""
    return "\t".join(map(str, values)) + "\n"
