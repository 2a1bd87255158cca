"""Signing in and out of the console, and what roles see, in a real browser."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from playwright.async_api import Browser, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from console.web import users
from console.web.access import Access
from console.web.access.access import SignedIn
from console.web.access.sessions import COOKIE
from console.web.server import WebApp
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings, Web
from pocketwatch.storage import operator_actions, pauses
from pocketwatch.storage.database import Database
from tests.fixtures.console import check_page, serve
from tests.fixtures.failures import Die
from tests.support.queues import in_queue

PASSWORD = "correct horse battery"
ENTRY = "/schedule/clean-sessions-daily"
FORGED = """([path, fields]) => {
  const form = Object.assign(document.createElement("form"), { method: "post", action: path });
  for (const [name, value] of Object.entries(fields))
    form.append(Object.assign(document.createElement("input"), { name, value }));
  document.body.append(form);
  form.submit();
}"""


@pytest.fixture
def web() -> Web:
    """Settings of a console with users."""
    values = {"POCKETWATCH_WEB_SIGN_IN": "users", "POCKETWATCH_WEB_SECRET_KEY": "0123456789abcdef0123456789abcdef"}
    return Web.model_validate(values)


@pytest.fixture
async def console(settings: Settings, web: Web, publisher: Publisher, database: Database) -> AsyncIterator[str]:
    """A console where people sign in: olena is an operator, viktor a viewer."""
    async with database.begin() as connection:
        await users.add(connection, "olena", PASSWORD, role="operator", actor="test", source="cli")
        await users.add(connection, "viktor", PASSWORD, role="viewer", actor="test", source="cli")
    async with WebApp(settings.model_copy(update={"web": web}), port=0) as app:
        yield app.url


async def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def is_paused(database: Database) -> bool:
    async with database.begin() as connection:
        return bool(await pauses.in_force(connection))


async def test_operator_signs_in_where_they_wanted_to_go_and_out(browser_page: Page, database: Database):
    await browser_page.goto("/runs?status=failed")
    assert await browser_page.inner_text("h1") == "Sign in"
    await check_page(browser_page, "sign-in")

    await sign_in(browser_page, "olena", "a wrong password")
    assert await browser_page.get_by_role("alert").inner_text() == "Name or password is wrong."
    await sign_in(browser_page, "olena")
    await browser_page.wait_for_url(lambda url: url.endswith("/runs?status=failed"))
    assert "olena operator" in await browser_page.inner_text("header")

    await browser_page.get_by_role("button", name="Sign out").click()
    assert await browser_page.get_by_role("status").inner_text() == "You are signed out."
    await browser_page.go_back()
    await browser_page.reload()
    assert await browser_page.inner_text("h1") == "Sign in"
    async with database.begin() as connection:
        actions = await operator_actions.newest(connection, limit=2)
    assert [each["action"] for each in actions] == ["web.sign_out", "web.sign_in"]


async def test_viewer_sees_no_button_and_a_forged_form_is_refused(
    browser_page: Page, database: Database, die: Die, publisher: Publisher
):
    await die("by-hand")
    await browser_page.goto("/sign-in")
    await sign_in(browser_page, "viktor")
    await browser_page.get_by_role("button", name="Sign out").wait_for()
    for path in (ENTRY, "/dead", "/dead/cleanup.tokens/by-hand", "/retries", "/trigger/rates.update", "/emails"):
        await browser_page.goto(path)
        buttons = [await each.inner_text() for each in await browser_page.locator("main button:visible").all()]
        assert set(buttons) <= {"Filter"}, path
    await browser_page.goto(ENTRY)
    token = await browser_page.locator("[name=csrf_token]").first.input_value()
    await check_page(browser_page, "entry-of-a-viewer")

    await browser_page.evaluate(FORGED, [f"{ENTRY}/pause", {"csrf_token": token, "reason": "mine"}])
    await browser_page.get_by_role("heading", name="Forbidden").wait_for()
    assert "Only operators can change something" in await browser_page.inner_text("main")
    await check_page(browser_page, "forbidden")
    await browser_page.goto("/actions")
    await browser_page.evaluate(FORGED, ["/dead/requeue", {"csrf_token": token, "dead": "cleanup.tokens/by-hand"}])
    await browser_page.get_by_role("heading", name="Forbidden").wait_for()

    assert not await is_paused(database)
    assert await in_queue(publisher, "cleanup.tokens") == []


async def test_form_of_another_site_is_refused(browser: Browser, console: str, database: Database):
    context = await browser.new_context(base_url=console)
    page = await context.new_page()
    await page.goto("/sign-in")
    await sign_in(page, "olena")
    await page.get_by_role("button", name="Sign out").wait_for()
    token = await page.locator("[name=csrf_token]").first.input_value()
    html = f"""<form method="post" action="{console}{ENTRY}/pause"><input name="csrf_token" value="{token}">
<input name="reason" value="theirs"><button>Win a car</button></form>"""

    async def offer(_: Request) -> HTMLResponse:
        return HTMLResponse(html)

    async with serve(Starlette(routes=[Route("/", offer)])) as other_site:
        await page.goto(other_site)
        await page.get_by_role("button", name="Win a car").click()
        await page.get_by_role("heading", name="Forbidden").wait_for()

    assert not await is_paused(database)
    await context.close()


async def test_expired_session_is_said_and_what_was_open_comes_back(
    browser_page: Page, console: str, web: Web, database: Database
):
    await browser_page.goto("/sign-in")
    await sign_in(browser_page, "olena")
    await browser_page.get_by_role("button", name="Sign out").wait_for()
    async with browser_page.expect_response(lambda each: each.request.resource_type in ("fetch", "xhr")):
        await browser_page.goto(ENTRY)  # a page is refreshed once when it listens
    expired = web.model_copy(update={"session_lifetime": timedelta(seconds=-1)})
    session = await Access(expired, database).sign_in("olena", PASSWORD, address="")
    assert isinstance(session, SignedIn)
    await browser_page.context.add_cookies([{"name": COOKIE, "value": session.token, "url": console}])

    await browser_page.get_by_label("Reason").last.fill("the disk is full")
    await browser_page.get_by_role("button", name="Pause").click()
    assert "nothing was changed" in await browser_page.get_by_role("alert").inner_text()
    assert not await is_paused(database)

    await sign_in(browser_page, "olena")
    await browser_page.wait_for_url(f"**{ENTRY}")
