"""The console's pages of analytics and currency rates."""

import json

import psycopg
from playwright.async_api import Page

from tests.fixtures.console import check_page

RATES = """
    INSERT INTO currency_rates (base_currency, target_currency, rate, source, fetched_at, is_active, created_at,
        updated_at, rate_date)
    SELECT 'UAH', currency, base + n * 0.01, source,
        now() - n * interval '1 day' - ascii(source) * interval '1 s', true, now(), now(),
        (now() - n * interval '1 day')::date
    FROM generate_series(0, 44) AS n, (VALUES ('USD', 41.5, 'NBU'), ('USD', 41.9, 'PRIVATBANK'), ('EUR', 45.2, 'NBU'))
        AS one (currency, base, source)
    WHERE n > 8 OR source <> 'PRIVATBANK'
"""
LOGS = """
    INSERT INTO currency_update_logs (started_at, completed_at, status, source, currencies_updated, currencies_failed,
        success_details, error_details, triggered_by, duration_seconds, created_at)
    VALUES (now(), now(), 'SUCCESS', 'NBU', 4, 0, '[]', '[]', 'schedule', 0.4, now()),
        (now(), now(), 'FAILED', 'NBU', 0, 4, '[]', '{"error": "does not answer <b>"}', 'schedule', 30, now()),
        (now(), now(), 'PARTIAL', 'PRIVATBANK', 3, 1, '[]', '[{"currency": "PLN", "error": "is missing"}]', 'manual', 1,
        now())
"""
ACTIVITY = """
    INSERT INTO daily_activity (day, views, new_ads, new_users)
    SELECT (now() - n * interval '1 day')::date, 12000 + n * 37, 300 + n, 80 + n FROM generate_series(0, 20) AS n
"""


def insert(database_url: str, *statements: str) -> None:
    with psycopg.connect(database_url) as connection:
        for statement in statements:
            connection.execute(statement.encode())


async def test_rates_are_shown_with_their_age_and_history(browser_page: Page, database_url: str):
    insert(database_url, RATES, LOGS)

    await browser_page.goto("/analytics/rates")

    current = [await row.inner_text() for row in await browser_page.locator("table").first.locator("tbody tr").all()]
    assert [row.split()[:2] for row in current] == [["EUR", "NBU"], ["USD", "NBU"], ["USD", "PRIVATBANK"]]
    assert [row.split()[-1] for row in current] == ["ok", "ok", "stale"]
    assert "No rate of PLN, GBP is stored" in await browser_page.inner_text("main")
    assert await browser_page.locator("figure").count() == 2
    await browser_page.get_by_text("UAH for one USD as a table").click()
    assert "NBU" in await browser_page.locator("figure table").first.inner_text()
    log = await browser_page.locator("table").last.inner_text()
    assert "does not answer <b>" in log
    assert "PLN: is missing" in log
    await check_page(browser_page, "rates")

    await browser_page.get_by_role("link", name="90 days").click()
    await browser_page.get_by_role("link", name="with failures").click()
    await browser_page.wait_for_url("**days=90*failed=yes**")
    assert await browser_page.locator("table").last.locator("tbody tr").count() == 2


async def test_activity_and_statistics_are_drawn(browser_page: Page, database_url: str):
    insert(database_url, ACTIVITY)
    payload = {"total_ads": 12_345, "active_ads": 900}
    with psycopg.connect(database_url) as connection:
        for n in range(3):
            connection.execute(
                "INSERT INTO analytics_snapshots (kind, period, payload) VALUES ('quick_stats', %s, %s)",
                [f"2026-11-20T1{n}:00", json.dumps(payload | {"active_ads": 900 + n})],
            )

    await browser_page.goto("/analytics")

    text = await browser_page.inner_text("main")
    assert "12\u202f345" in text
    assert await browser_page.locator("figure .line").count() == 3
    assert await browser_page.locator(".spark").count() == 2
    assert "No report has been generated yet" in text
    await check_page(browser_page, "analytics")


async def test_report_of_another_version_is_not_shown(browser_page: Page, database_url: str):
    insert(
        database_url,
        "INSERT INTO analytics_snapshots (kind, locale, period, payload) "
        """VALUES ('daily_report', 'en', '2026-11-20', '{"figures": [1]}')""",
    )

    answer = await browser_page.goto("/analytics")

    assert answer is not None
    assert answer.status == 200
    assert "No report has been generated yet" in await browser_page.inner_text("main")
