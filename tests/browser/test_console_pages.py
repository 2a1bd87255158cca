"""The console's pages in a browser: each is accessible, fits a phone, and says what it is."""

import pytest
from playwright.async_api import Page

from tests.fixtures.console import check_page

PAGES = {
    "/": "Overview",
    "/actions": "Actions",
    "/schedule": "Schedule",
    "/schedule/clean-sessions-daily": "clean-sessions-daily",
    "/schedule/clean-sessions-daily/why": "Why clean-sessions-daily",
    "/schedule/simulate?days=7": "The next 7 days",
    "/nothing-is-here": "Not Found",
}


@pytest.mark.parametrize("path", PAGES)
async def test_page_without_data_is_accessible(browser_page: Page, path: str):
    await browser_page.goto(path)

    assert await browser_page.inner_text("h1") == PAGES[path]
    await check_page(browser_page, path.partition("?")[0].strip("/").replace("/", "-") or "overview")
