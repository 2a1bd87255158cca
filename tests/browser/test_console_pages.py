"""The console's pages in a browser: each is accessible, fits a phone, and says what it is."""

import pytest
from playwright.async_api import Page

from tests.fixtures.console import check_page

PAGES = {
    "/": "Overview",
    "/actions": "Actions",
    "/schedule": "Schedule",
    "/schedule/clean-sessions-daily": "clean-sessions-daily",
}


@pytest.mark.parametrize("path", PAGES)
async def test_page_without_data_is_accessible(browser_page: Page, path: str):
    await browser_page.goto(path)

    assert await browser_page.inner_text("h1") == PAGES[path]
    await check_page(browser_page, path.strip("/").replace("/", "-") or "overview")
