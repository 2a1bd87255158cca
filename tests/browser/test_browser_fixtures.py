"""What the browser tests rely on: an application is served, and the checks find what they are to find."""

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Browser, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.fixtures.console import check_accessibility, check_phone, serve

GOOD = """<!DOCTYPE html><html lang="en"><title>A page</title><meta name="viewport" content="width=device-width">
<style>body { color: #222; background: #fff }
@media (prefers-color-scheme: dark) { body { color: DARK; background: #111 } }</style>
<main><h1>Runs</h1><div>WIDE</div></main>"""


def app(html: str) -> Starlette:
    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(html)

    return Starlette(routes=[Route("/", page)])


@pytest.fixture
def opened(browser: Browser) -> Callable[[str], Awaitable[Page]]:
    async def at(url: str) -> Page:
        page = await browser.new_page()
        await page.goto(url)
        return page

    return at


async def test_accessible_page_passes(opened):
    async with serve(app(GOOD.replace("DARK", "#eee"))) as url:
        page = await opened(url)

        await check_accessibility(page)
        await check_phone(page)
        assert await page.inner_text("h1") == "Runs"


async def test_low_contrast_of_one_colour_scheme_is_found(opened):
    async with serve(app(GOOD.replace("DARK", "#333"))) as url:
        with pytest.raises(
            AssertionError, match=r"dark: Found 1 accessibility violations:\s+Rule Violated:\s+color-contrast"
        ):
            await check_accessibility(await opened(url))


async def test_page_wider_than_a_phone_is_found(opened):
    async with serve(app(GOOD.replace("WIDE", '<table style="width: 500px"><tr><td>1</table>'))) as url:
        with pytest.raises(AssertionError, match="wider than 390"):
            await check_phone(await opened(url))


def test_a_loop_of_its_own_runs_beside_the_browser(chromium):
    import asyncio  # noqa: PLC0415

    assert asyncio.run(asyncio.sleep(0, chromium)).startswith("ws://")
