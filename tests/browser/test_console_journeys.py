"""Whole journeys of an operator: with a mouse, by the keyboard only, and without JavaScript."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.async_api import Page

from pocketwatch.broker.publisher import Publisher
from pocketwatch.storage import operator_actions
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import update_logs
from tests.fixtures.console import check_page
from tests.fixtures.failures import Die, Wait
from tests.support.keyboard import press, tab_to, type_into
from tests.support.queues import in_queue

ENTRY = "/schedule/clean-sessions-daily"


async def actions(database: Database) -> list[tuple[Any, ...]]:
    """What was done, oldest first: the action, its target and its reason."""
    async with database.begin() as connection:
        rows = await operator_actions.newest(connection, limit=100)
    return [(each["action"], each["target"], each["reason"]) for each in reversed(rows) if each["source"] == "web"]


@pytest.fixture
async def running(database: Database) -> None:
    """A run of a worker of another machine."""
    row = {"job": "cleanup.media", "message_id": "long", "trigger": "manual", "status": "running", "worker": "far:1"}
    async with database.begin() as connection:
        await connection.execute(sa.insert(update_logs), row | {"progress": 0.5})


async def test_entry_is_paused_extended_run_and_resumed(browser_page: Page, database: Database, publisher: Publisher):
    browser_page.on("dialog", lambda dialog: dialog.accept())
    await browser_page.goto(ENTRY)
    pause = browser_page.locator("form[action$='/pause']")

    await pause.get_by_label("Reason").fill("the disk is full")
    await pause.get_by_label("For").fill("soon")
    await pause.get_by_role("button", name="Pause").click()
    assert "not a duration" in await browser_page.inner_text("#field-for-note")
    await check_page(browser_page, "entry-refused-pause")
    await pause.get_by_label("For").fill("6h")
    await pause.get_by_role("button", name="Pause").click()
    await browser_page.get_by_text("is paused for 6h").wait_for()
    await check_page(browser_page, "entry-paused")

    await pause.get_by_label("For").fill("2d")
    await pause.get_by_role("button", name="Change the pause").click()
    await browser_page.get_by_text("it is paused for 2d").wait_for()
    await browser_page.get_by_label("Reason").first.fill("to see whether it works")
    await browser_page.get_by_role("button", name="Run now").click()
    await browser_page.get_by_text("was published as").wait_for()
    await browser_page.get_by_label("Reason").first.fill("there is space again")
    await browser_page.get_by_role("button", name="Resume").click()
    await browser_page.get_by_text("fires again").wait_for()

    assert len(await in_queue(publisher, "cleanup.sessions")) == 1
    assert await actions(database) == [
        ("schedule.pause", "clean-sessions-daily", "the disk is full"),
        ("schedule.pause", "clean-sessions-daily", "the disk is full"),
        ("schedule.run", "clean-sessions-daily", "to see whether it works"),
        ("schedule.resume", "clean-sessions-daily", "there is space again"),
    ]
    await browser_page.goto("/actions")
    assert "there is space again" in await browser_page.inner_text("main")
    await check_page(browser_page, "actions")


async def test_boxes_of_a_table_are_ticked_at_once(browser_page: Page, die: Die, publisher: Publisher):
    for number in range(3):
        await die(f"m{number}")
    await browser_page.goto("/dead")

    await browser_page.get_by_label("Select all").check()
    await browser_page.get_by_label("Select m1").uncheck()
    await browser_page.get_by_role("button", name="Requeue").click()
    await browser_page.get_by_text("2 requeued").wait_for()

    assert {each.message_id for each in await in_queue(publisher, "cleanup.tokens")} == {"m0", "m2"}


async def test_everything_is_done_by_keyboard(
    browser_page: Page, database: Database, publisher: Publisher, die: Die, wait: Wait, running: None
):
    page = browser_page
    page.on("dialog", lambda dialog: dialog.accept())
    await die("by-hand")
    await wait("a")
    await page.goto("/")
    await press(page, page.get_by_role("link", name="Skip to the content"))
    assert await page.evaluate("document.activeElement.id") == "main"

    await press(page, page.get_by_role("navigation", name="Pages").get_by_role("link", name="Runs"))
    await page.get_by_role("heading", name="Runs", level=1).wait_for()
    await tab_to(page, page.get_by_label("Job"))
    await page.keyboard.type("cleanup.media")
    await press(page, page.get_by_role("button", name="Filter"))
    await page.wait_for_url("**job=cleanup.media**")
    await press(page, page.locator("tbody a").first)
    await type_into(page, page.get_by_label("Reason"), "the disk is full")
    await page.keyboard.press("Enter")
    await page.get_by_text("Asked to stop").wait_for()

    await press(page, page.get_by_role("link", name="Schedule", exact=True))
    await press(page, page.get_by_role("link", name="clean-sessions-daily"))
    await type_into(page, page.locator("#field-reason"), "the disk is full")
    await type_into(page, page.get_by_label("For"), "6h")
    await page.keyboard.press("Enter")
    await page.get_by_text("is paused for 6h").wait_for()
    await press(page, page.get_by_role("button", name="Resume"))
    await page.get_by_text("fires again").wait_for()

    await press(page, page.get_by_role("link", name="Trigger", exact=True))
    await press(page, page.get_by_role("link", name="rates.update"))
    await type_into(page, page.get_by_label("Currencies"), "USD")
    await press(page, page.get_by_role("button", name="Continue"))
    await press(page, page.get_by_role("button", name="Publish"))
    await page.get_by_role("heading", name="Published").wait_for()

    await press(page, page.get_by_role("link", name="Retries", exact=True))
    await press(page, page.get_by_label("Select a", exact=True), "Space")
    await press(page, page.get_by_role("button", name="Retry selected now"))
    await page.get_by_text("1 retried now").wait_for()

    await press(page, page.get_by_role("link", name="Dead letters", exact=True))
    await press(page, page.get_by_role("link", name="by-hand"))
    await type_into(page, page.get_by_label("Retention days"), "-7")
    await page.keyboard.press("Enter")
    await page.get_by_text("must be greater than or equal to 0").wait_for()
    await type_into(page, page.get_by_label("Retention days"), "7")
    await tab_to(page, page.get_by_label("Retention day", exact=True))
    await page.keyboard.press("Control+a")
    await page.keyboard.press("Delete")
    await press(page, page.get_by_role("button", name="Requeue"))
    await page.get_by_text("Requeued by-hand to cleanup.tokens.").wait_for()

    done = [action for action, _, _ in await actions(database)]
    assert done == [
        "runs.stop",
        "schedule.pause",
        "schedule.resume",
        "trigger.publish",
        "retries.now",
        "dead.edit",
    ]
    (tokens,) = await in_queue(publisher, "cleanup.tokens")
    assert json.loads(tokens.body) == {"retention_days": 7}


async def test_everything_is_done_without_javascript(
    plain_page: Page, database: Database, publisher: Publisher, die: Die, wait: Wait, running: None
):
    page = plain_page
    for number in range(3):
        await die(f"m{number}")
    await wait("a")
    await page.goto("/")
    await page.get_by_label("Theme").select_option("dark")
    await page.get_by_role("button", name="Set").click()
    assert await page.locator("html").get_attribute("data-theme") == "dark"

    await page.goto("/runs?job=cleanup.media")
    await page.locator("tbody a").first.click()
    await page.get_by_label("Reason").fill("the disk is full")
    await page.get_by_role("button", name="Stop").click()
    assert "Asked to stop" in await page.get_by_role("status").inner_text()

    await page.goto(ENTRY)
    await page.locator("#field-reason").fill("the disk is full")
    await page.get_by_role("button", name="Pause").click()
    await page.get_by_role("button", name="Resume").click()
    assert "fires again" in await page.get_by_role("status").inner_text()

    await page.goto("/retries")
    await page.get_by_role("button", name="Retry all of rates.update now").click()
    assert "1 retried now" in await page.get_by_role("status").inner_text()

    await page.goto("/dead/cleanup.tokens/m0")
    await page.get_by_label("Retention day", exact=True).fill("")
    await page.get_by_label("Retention days").fill("-7")
    await page.get_by_role("button", name="Requeue").click()
    assert "Nothing was requeued" in await page.get_by_role("alert").inner_text()
    await page.get_by_label("Retention days").fill("7")
    await page.get_by_label("Reason").fill("a typo")
    await page.get_by_role("button", name="Requeue").click()
    assert not await page.get_by_label("Select all").is_visible()
    await page.get_by_label("Select m1").check()
    await page.get_by_label("Reason", exact=True).fill("not needed")
    await page.get_by_role("button", name="Drop…").click()
    await page.get_by_role("button", name="Drop it").click()
    assert "1 dropped" in await page.get_by_role("status").inner_text()

    assert await actions(database) == [
        ("runs.stop", "long", "the disk is full"),
        ("schedule.pause", "clean-sessions-daily", "the disk is full"),
        ("schedule.resume", "clean-sessions-daily", None),
        ("retries.now", "a", None),
        ("dead.edit", "m0", "a typo"),
        ("dead.drop", "m1", "not needed"),
    ]
    assert len(await in_queue(publisher, "rates.update")) == 1
