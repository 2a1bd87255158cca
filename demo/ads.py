"""Ads of the marketplace, with the rows that they refer to."""

from typing import Any

import psycopg
from psycopg.rows import dict_row

PARENTS = """
INSERT INTO add_accounts (id, account_type, moderation_level, role, organization_name, stats_enabled, user_id)
  SELECT 1, 'BASIC', 'AUTO', 'seller', '', true, min(id) FROM auth_user;
INSERT INTO ads_vehicletype (id, name, slug, is_popular, is_active, sort_order) VALUES (1, 'car', 'car', true, true, 0);
INSERT INTO ads_carmake (id, name, is_popular, vehicle_type_id) VALUES (1, 'ZAZ', true, 1);
INSERT INTO ads_region (id, name, code, country, is_active) VALUES (1, 'Полтавська', 'PL', 'Ukraine', true);
INSERT INTO ads_city (id, name, is_regional_center, is_active, region_id) VALUES (1, 'Полтава', true, true, 1);
"""
ADD = """
INSERT INTO car_ads (created_at, updated_at, title, description, currency, dynamic_fields, is_validated,
  validation_errors, status, moderation_reason, auto_moderation_attempts, needs_manual_review, model, seller_type,
  geocode, is_favorite, use_profile_contacts, account_id, mark_id, city_id, region_id)
SELECT now() - make_interval(days => %(created)s::int), now() - make_interval(days => %(updated)s::int),
  'Таврія ' || n, '', 'UAH', '{}', %(status)s = 'active', '{}', %(status)s, '', 0,
  false, '1102', 'private', '', false, true, 1, 1, 1, 1
FROM generate_series(1, %(count)s) AS n RETURNING id
"""


def prepare(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(PARENTS.encode())


def add(
    database_url: str, status: str, *, created: int | None, updated: int | None = None, count: int = 1
) -> list[int]:
    """Insert ads, and return their ids in ascending order.

    Args:
        created: days ago; None for unknown.
        updated: days ago, of the last change.
    """
    values: dict[str, Any] = {"status": status, "created": created, "updated": updated, "count": count}
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        return sorted(row["id"] for row in connection.execute(ADD.encode(), values))
