"""The overview of the marketplace by plain queries: python -m bench.peers.overview ZONE

One statement per figure, one after the other, from the rows alone. Reads DATABASE_URL.
"""

import json
import os
import sys
import time
from typing import Any

import psycopg
from psycopg.rows import dict_row

from bench.peers.counts import COUNTS, TODAY

Row = dict[str, Any]

SINCE = "((now() AT TIME ZONE %(zone)s)::date - 29)::timestamp AT TIME ZONE %(zone)s"  # the first of thirty days
LATELY = f"created_at >= {SINCE} AND created_at < now()"
DAY = "(created_at AT TIME ZONE %(zone)s)::date"
DECIDED = "action NOT IN ('archived', 'restored')"

FRONT_PAGE = COUNTS | {"new_users_today": f"SELECT count(*) FROM auth_user WHERE {TODAY}"}
FIGURES = {
    "ads_by_status": "SELECT status, count(*) AS ads FROM car_ads GROUP BY status",
    "top_makes": """
        SELECT mark_id, name, count(*) AS ads FROM car_ads JOIN ads_carmake ON ads_carmake.id = mark_id
        WHERE status = 'active' GROUP BY mark_id, name ORDER BY ads DESC, mark_id LIMIT 20""",
    "regions": """
        SELECT region_id, name, count(*) AS ads FROM car_ads JOIN ads_region ON ads_region.id = region_id
        WHERE status = 'active' GROUP BY region_id, name ORDER BY ads DESC, region_id""",
    "prices": """
        SELECT mark_id, name, count(*) AS ads,
            percentile_cont(ARRAY[0.25, 0.5, 0.75]) WITHIN GROUP (ORDER BY (price * known.rate)::float8) AS quartiles
        FROM car_ads JOIN ads_carmake ON ads_carmake.id = mark_id
        JOIN (SELECT 'UAH' AS currency, 1 AS rate UNION ALL SELECT * FROM (
            SELECT DISTINCT ON (target_currency) target_currency, rate FROM currency_rates
            WHERE base_currency = 'UAH' AND is_active
            ORDER BY target_currency, rate_date DESC, source = 'NBU' DESC, id DESC) AS newest
        ) AS known ON known.currency = upper(car_ads.currency)
        WHERE status = 'active' AND price > 0 GROUP BY mark_id, name ORDER BY ads DESC, mark_id""",
    "lately_by_day": f"SELECT {DAY} AS day, count(*) AS ads FROM car_ads WHERE {LATELY} GROUP BY 1",
    "lately_by_status": f"SELECT status, count(*) AS ads FROM car_ads WHERE {LATELY} GROUP BY 1",
    "lately_by_seller": f"SELECT seller_type, count(*) AS ads FROM car_ads WHERE {LATELY} GROUP BY 1",
    "lately_by_all": f"""
        SELECT {DAY} AS day, status, seller_type, count(*) AS ads FROM car_ads
        WHERE {LATELY} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""",
    "views_by_day": f"""
        SELECT {DAY} AS day, count(*) AS views FROM ad_views
        WHERE created_at >= {SINCE} GROUP BY 1""",
    "funnel": f"""
        SELECT count(*) AS submitted, count(*) FILTER (WHERE is_settled OR decided_at IS NOT NULL) AS decided,
            count(*) FILTER (WHERE is_shown OR active_at IS NOT NULL) AS active,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM active_at - created_at)) AS median_time
        FROM (
            SELECT created_at, is_shown, is_settled, coalesce(first, moderated_at) AS decided_at,
                coalesce(active, CASE WHEN is_shown THEN moderated_at END) AS active_at
            FROM (
                SELECT *, status IN ('active', 'sold') OR (status = 'archived' AND rejected IS NOT TRUE) AS is_shown,
                    status IN ('active', 'sold', 'archived', 'rejected', 'blocked') AS is_settled
                FROM car_ads LEFT JOIN (
                    SELECT ad_id, min(decided_at) FILTER (WHERE {DECIDED}) AS first,
                        min(decided_at) FILTER (WHERE {DECIDED} AND to_status = 'active') AS active,
                        bool_or(action = 'archived' AND from_status = 'rejected') AS rejected
                    FROM moderation_decisions WHERE decided_at >= {SINCE} GROUP BY ad_id
                ) AS decided ON decided.ad_id = car_ads.id
                WHERE {LATELY} AND status <> 'draft'
            ) AS submitted
        ) AS walked""",
}


def main(zone: str) -> None:
    with psycopg.connect(os.environ["DATABASE_URL"], row_factory=dict_row) as connection:

        def ask(sql: str) -> list[Row]:
            return connection.execute(sql.encode(), {"zone": zone}).fetchall()

        began = time.perf_counter()
        front_page = {name: ask(sql)[0]["count"] for name, sql in FRONT_PAGE.items()}
        found = {name: ask(sql) for name, sql in FIGURES.items()}
        seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "figures": payload(front_page, found)}, default=str))


def payload(front_page: dict[str, int], found: dict[str, list[Row]]) -> dict[str, Any]:
    """The figures by the names that the snapshot has for them."""
    funnel, ads = found["funnel"][0], front_page["total_ads"]
    lately, views = sum_of(found["lately_by_day"], "ads"), sum_of(found["views_by_day"], "views")
    return {
        "overview": front_page,
        "ads_by_status": pairs(found["ads_by_status"], "status"),
        "top_makes": [[row["mark_id"], row["name"], row["ads"]] for row in found["top_makes"]],
        "regions": [[row["region_id"], row["name"], row["ads"]] for row in found["regions"]],
        "prices": [
            [row["mark_id"], row["name"], row["ads"], [round(price, 2) for price in row["quartiles"]]]
            for row in found["prices"]
        ],
        "lately": lately,
        "lately_by_day": pairs(found["lately_by_day"], "day"),
        "lately_by_status": pairs(found["lately_by_status"], "status"),
        "lately_by_seller": pairs(found["lately_by_seller"], "seller_type"),
        "lately_by_all": [row | {"day": str(row["day"])} for row in found["lately_by_all"]],
        "views": views,
        "views_by_day": {str(row["day"]): row["views"] for row in found["views_by_day"]},
        "views_per_ad": {"all_time": round(front_page["total_views"] / ads, 2), "lately": round(views / ads, 2)},
        "funnel": {name: round(value) for name, value in funnel.items()},
    }


def pairs(rows: list[Row], key: str) -> dict[str, int]:
    return {str(row[key]): row["ads"] for row in rows}


def sum_of(rows: list[Row], key: str) -> int:
    return sum(row[key] for row in rows)


if __name__ == "__main__":
    main(sys.argv[1])
