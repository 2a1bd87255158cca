"""The console's pages of runs, triggers, dead letters, retries and queues, as an operator uses them."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from playwright.async_api import Page, Route

from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.storage import operator_actions, outbox, run_log
from pocketwatch.storage.database import Database
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.envelope import Envelope
from schemas.ticks import CleanTokens
from tests.fixtures.console import check_page
from tests.fixtures.failures import Die, Wait
from tests.fixtures.suite import Consume, Row
from tests.support.keyboard import tab_to
from tests.support.queues import in_queue
from tests.support.waiting import eventually

CHANGED = "htmx.trigger(document.querySelector('[data-live]'), 'sse:runs')"
HOSTILE = "<script>document.title = 'broken'</script><img src=x onerror=alert(1)>\u202eevil\x1b[31m"


@pytest.fixture
async def logged(database: Database) -> None:
    """Some runs: two attempts of a chain with its child, and one of another job."""

    def row(
        job: str, message_id: str, status: str, *, attempt: int = 1, error: str | None = None, **changes: Any
    ) -> Row:
        known = {"correlation_id": message_id, "exchange": "ticks", "routing_key": job, "entry": None}
        envelope = Envelope(message_id=message_id, attempt=attempt, **(known | changes))
        payload = json.dumps({"source": "NBU"} if job == "rates.update" else {"retention_days": 9})
        return run_log.Run(job, envelope, payload=payload).row(status, statistics={"deleted": 4}, error=error)

    rows = [
        row("cleanup.tokens", "nightly", "failed", error=HOSTILE, entry="clean-nightly"),
        row("cleanup.tokens", "nightly", "partial", attempt=2, error="out of time", entry="clean-nightly"),
        row("cleanup.tokens", "nightly.next", "succeeded", correlation_id="nightly"),
        row("rates.update", "by-hand", "succeeded"),
    ]
    async with database.begin() as connection:
        await run_log.finish(connection, rows)


async def add_run(database: Database, message_id: str) -> None:
    envelope = Envelope(
        message_id=message_id, correlation_id=message_id, exchange="ticks", routing_key="rates.update", entry=None
    )
    async with database.begin() as connection:
        await run_log.finish(connection, [run_log.Run("rates.update", envelope, payload="{}").row("succeeded")])


async def last_action(database: Database) -> Row:
    async with database.begin() as connection:
        return (await operator_actions.newest(connection, limit=1))[0]


async def test_runs_are_filtered_and_one_is_read(browser_page: Page, logged: None):
    await browser_page.goto("/runs")
    assert await browser_page.locator("tbody tr").count() == 4
    await check_page(browser_page, "runs")

    await browser_page.get_by_label("Job").select_option("cleanup.tokens")
    await browser_page.get_by_label("Status").select_option("failed")
    await browser_page.get_by_label("Id begins with").fill("night")
    await browser_page.get_by_label("Contains").fill("DOCUMENT.title")
    await browser_page.get_by_role("button", name="Filter").click()
    await browser_page.wait_for_url("**status=failed**")
    assert await browser_page.locator("tbody tr").count() == 1

    await browser_page.locator("tbody a").first.click()
    await browser_page.wait_for_selector(".attempts")
    text = await browser_page.inner_text("main")
    assert "<script>document.title" in text
    assert "\\u202eevil\\x1b[31m" in text
    assert await browser_page.title() == "cleanup.tokens failed · Pocketwatch"
    assert await browser_page.locator(".attempts li").count() == 2
    assert '"retention_days": 9' in await browser_page.inner_text("pre")
    chain = [await each.inner_text() for each in await browser_page.locator("tbody tr").all()]
    assert [line.split("\t")[0] for line in chain] == ["nightly this one", "└ nightly.next"]
    await check_page(browser_page, "run")


async def test_run_is_found_by_its_message_id_and_wrong_times_are_said(browser_page: Page, logged: None):
    await browser_page.goto("/runs/by-hand")
    assert await browser_page.inner_text("h1") == "rates.update"

    assert (await browser_page.goto("/runs/nothing")).status == 404
    await browser_page.goto("/runs?since=yesterday&before=x")
    assert "not a time" in await browser_page.inner_text("#field-since-note")


PAGES = (
    "/",
    "/actions",
    "/analytics",
    "/analytics/rates",
    "/dead",
    "/emails",
    "/emails/suppressed",
    "/moderation",
    "/queues",
    "/retries",
    "/runs",
    "/runs/by-hand",
    "/schedule",
    "/schedule/clean-sessions-daily",
    "/trigger",
)


async def test_part_of_a_page_is_refreshed(console: str, logged: None):
    async with httpx.AsyncClient(base_url=console, trust_env=False) as client:
        for path in PAGES:
            whole = await client.get(path)
            part = await client.get(path, headers={"HX-Request": "true"})
            assert (whole.status_code, part.status_code) == (200, 200), path
            assert whole.text.startswith("<!DOCTYPE html>"), path
            assert 'aria-label="Pages"' not in part.text, path
            assert "<h1>" in part.text, path


async def test_link_that_was_reached_by_keyboard_keeps_the_focus_when_its_part_would_be_refreshed(
    browser_page: Page, logged: None
):
    await browser_page.goto("/runs")
    link = browser_page.locator("tbody a").first
    await tab_to(browser_page, link)

    await browser_page.evaluate(
        "htmx.ajax('GET', location.href, {source: '[data-live]', target: '[data-live]', swap: 'outerHTML'})"
    )
    await browser_page.wait_for_timeout(1000)

    assert await link.evaluate("element => element === document.activeElement")


async def test_change_that_came_while_a_part_was_in_use_is_shown_afterwards(
    browser_page: Page, logged: None, database: Database
):
    await browser_page.route("**/events", lambda route: route.abort())  # what changes is said by CHANGED only
    await browser_page.goto("/runs")
    link = browser_page.locator("tbody a").first
    await tab_to(browser_page, link)
    await add_run(database, "while-in-use")
    await browser_page.evaluate(CHANGED)
    await browser_page.wait_for_timeout(1500)
    assert await browser_page.locator("tbody tr").count() == 4

    await link.evaluate("element => element.blur()")

    await browser_page.locator("tbody tr").nth(4).wait_for()


async def test_change_that_came_while_a_response_was_on_its_way_is_shown(
    browser_page: Page, logged: None, database: Database
):
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer_late(route: Route) -> None:
        response = await route.fetch()
        asked.set()
        await may_answer.wait()
        await route.fulfill(response=response)

    await browser_page.route("**/events", lambda route: route.abort())
    await browser_page.goto("/runs")
    await browser_page.route("**/runs", answer_late)
    await browser_page.evaluate(CHANGED)
    await asyncio.wait_for(asked.wait(), 10)
    await add_run(database, "meanwhile")
    await browser_page.evaluate(CHANGED)
    may_answer.set()

    await browser_page.locator("tbody tr").nth(4).wait_for()


async def test_part_that_has_not_changed_is_not_replaced(browser_page: Page, logged: None):
    await browser_page.route("**/events", lambda route: route.abort())
    await browser_page.goto("/runs/by-hand")
    await browser_page.evaluate("window.kept = document.querySelector('#run .lead')")

    async with browser_page.expect_response("**/runs/by-hand") as answered:
        await browser_page.evaluate(CHANGED)
    assert (await answered.value).ok
    await browser_page.wait_for_timeout(300)

    assert await browser_page.evaluate("window.kept.isConnected")


async def test_change_that_came_before_the_page_listened_is_shown(browser_page: Page, logged: None, database: Database):
    may_listen = asyncio.Event()

    async def listen_late(route: Route) -> None:
        await may_listen.wait()
        await route.continue_()

    await browser_page.route("**/events", listen_late)
    await browser_page.goto("/runs")
    await add_run(database, "before-it-listened")
    async with database.begin() as connection:
        await connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
    may_listen.set()

    await browser_page.locator("tbody tr").nth(4).wait_for()


async def test_running_job_is_stopped(browser_page: Page, database: Database, consume: Consume, publisher: Publisher):
    started = asyncio.Event()

    @consumer
    async def clean(tick: CleanTokens, job: JobContext) -> None:
        started.set()
        while not job.should_stop():
            await job.progress(0.25)
            await asyncio.sleep(0.02)

    async with consume(clean):
        envelope = Envelope(message_id="long", correlation_id="long", exchange="ticks", routing_key="cleanup.tokens")
        await publisher.publish(message_of(envelope, {}), exchange="ticks", routing_key="cleanup.tokens")
        await asyncio.wait_for(started.wait(), 30)
        await browser_page.goto("/runs/long")
        assert await browser_page.get_by_label("Progress").get_attribute("value") == "0.25"
        await check_page(browser_page, "run-running")

        await browser_page.get_by_label("Reason").fill("the disk is full")
        await browser_page.get_by_role("button", name="Stop").click()

        await browser_page.get_by_text("partial", exact=True).first.wait_for()  # by itself: the page is live
    assert "the disk is full" in await browser_page.inner_text("main")
    action = await last_action(database)
    assert (action["action"], action["target"], action["reason"]) == ("runs.stop", "long", "the disk is full")


async def test_destroying_job_is_counted_before_it_is_done(
    browser_page: Page, database: Database, consume: Consume, media: Path
):
    old = media / "old.jpg"
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    async with consume():
        await browser_page.goto("/trigger")
        await check_page(browser_page, "trigger")
        await browser_page.get_by_role("link", name="cleanup.media").click()
        await browser_page.get_by_label("Retention days").fill("soon")
        await browser_page.get_by_role("button", name="Start a dry run").click()
        await browser_page.get_by_role("alert").wait_for()
        note = await browser_page.inner_text("#field-argument\\.retention_days-note")
        assert note == 'retention_days is "soon": must be a valid integer'
        await check_page(browser_page, "trigger-errors")

        await browser_page.get_by_label("Retention days").fill("14")
        await browser_page.get_by_role("button", name="Start a dry run").click()
        await browser_page.get_by_role("button", name="Run it").wait_for()
        assert old.exists()
        assert '"retention_days": 14' in await browser_page.inner_text("pre")
        figures = await browser_page.inner_text("dl")
        assert "files_deleted" in figures
        await check_page(browser_page, "trigger-confirm")
        await browser_page.get_by_role("button", name="Run it").click()
        await browser_page.get_by_text("succeeded", exact=True).first.wait_for()
    assert not old.exists()
    action = await last_action(database)
    assert (action["action"], action["target"]) == ("trigger.publish", "cleanup.media")
    assert action["after"]["arguments"] == {"retention_days": 14}


async def test_run_is_run_again_with_edited_arguments(
    browser_page: Page, logged: None, publisher: Publisher, database: Database
):
    await browser_page.goto("/runs/by-hand")
    await browser_page.get_by_role("link", name="Run again").click()
    await browser_page.get_by_label("Source").select_option("PRIVATBANK")
    await browser_page.get_by_label("Currencies").fill("USD\nEUR")
    await browser_page.get_by_role("button", name="Continue").click()
    await browser_page.get_by_role("button", name="Publish").click()
    await browser_page.get_by_role("heading", name="Published").wait_for()

    (message,) = await in_queue(publisher, "rates.update")
    assert json.loads(message.body) == {"source": "PRIVATBANK", "currencies": ["USD", "EUR"]}
    assert (await last_action(database))["after"]["message_id"] == message.message_id


async def test_dead_letter_is_edited_and_requeued(
    browser_page: Page, die: Die, publisher: Publisher, database: Database
):
    await die("[b]odd/1", x_error=HOSTILE, x_requeued=3)
    await die("by-hand-6")
    await browser_page.goto("/dead")
    assert "<img src=x" in await browser_page.inner_text("main")
    assert "requeued three times or more" in await browser_page.inner_text("main")
    await check_page(browser_page, "dead")

    await browser_page.get_by_role("link", name="by-hand-6").click()
    unknown = browser_page.get_by_label("Retention day", exact=True)
    await unknown.wait_for()
    assert 'did you mean "retention_days"?' in await browser_page.inner_text("#field-argument\\.retention_day-note")
    await check_page(browser_page, "dead-letter")
    await browser_page.get_by_label("Retention days").fill("-7")
    await browser_page.get_by_role("button", name="Requeue").click()
    await browser_page.get_by_text("must be greater than or equal to 0").first.wait_for()
    await unknown.fill("")
    await browser_page.get_by_label("Retention days").fill("7")
    await browser_page.get_by_role("button", name="Requeue").click()
    await browser_page.get_by_role("status").wait_for()

    (message,) = await in_queue(publisher, "cleanup.tokens")
    assert (message.message_id, json.loads(message.body)) == ("by-hand-6", {"retention_days": 7})
    assert (await last_action(database))["action"] == "dead.edit"


async def test_dead_letters_are_requeued_with_a_rate_and_dropped(
    browser_page: Page, die: Die, publisher: Publisher, database: Database
):
    for number in range(5):
        await die(f"m{number}", x_error="unknown field" if number < 4 else "no owner")
    await browser_page.goto("/dead?reason=owner")
    await browser_page.get_by_label("Select m4").check()
    await browser_page.get_by_role("button", name="Drop…").click()
    await browser_page.get_by_role("heading", name="Drop 1 dead letter?").wait_for()
    await check_page(browser_page, "dead-drop")
    await browser_page.get_by_role("button", name="Drop it").click()
    await browser_page.get_by_role("status").wait_for()
    assert (await last_action(database))["action"] == "dead.drop"

    await browser_page.get_by_label("the selected ones").wait_for()
    await browser_page.get_by_label("all 4 that match").check()
    await browser_page.get_by_label("Rate limit (per second)").fill("50")
    await browser_page.get_by_role("button", name="Requeue").click()
    await browser_page.get_by_role("heading", name="Requeueing").wait_for()

    async def all_moved() -> bool:
        return len(await in_queue(publisher, "cleanup.tokens")) == 4

    await eventually(all_moved)
    await browser_page.get_by_text("Done.").wait_for()
    await check_page(browser_page, "requeueing")
    action = await last_action(database)
    assert (action["action"], action["target"], action["after"]["count"]) == ("dead.requeue", "cleanup.tokens", 4)


async def test_waiting_message_is_retried_now(browser_page: Page, wait: Wait, publisher: Publisher):
    for name in ("a", "b", "c"):
        await wait(name)
    await browser_page.goto("/retries")
    await check_page(browser_page, "retries")

    await browser_page.get_by_label("Select b").check()
    await browser_page.get_by_role("button", name="Retry selected now").click()
    await browser_page.get_by_role("status").wait_for()
    assert [each.message_id for each in await in_queue(publisher, "rates.update")] == ["b"]

    await browser_page.get_by_role("button", name="Retry all of rates.update now").click()
    await browser_page.get_by_text("No message waits for another attempt.").wait_for()
    assert len(await in_queue(publisher, "rates.update")) == 3


async def test_queues_are_shown_with_their_consumers(
    browser_page: Page, die: Die, wait: Wait, consume: Consume, publisher: Publisher, database: Database
):
    await die("d")
    await wait("w")
    async with database.begin() as connection:
        envelope = Envelope(message_id="sent", correlation_id="sent", exchange="ticks", routing_key="rates.update")
        table, row = outbox.of(envelope, {})
        await connection.execute(sa.insert(table), row)
        await connection.execute(sa.text("UPDATE outbox SET sent_at = now() - interval '7 minutes'"))
    await publisher.publish(message_of(envelope, {}), exchange="ticks", routing_key="rates.update")

    await browser_page.goto("/queues")

    async def row_of(queue: str) -> list[str]:
        row = browser_page.locator("tbody tr", has=browser_page.get_by_role("rowheader", name=queue, exact=True))
        return [await each.inner_text() for each in await row.locator("th, td").all()]

    rates = await row_of("rates.update")
    assert (rates[1], rates[3], rates[4], rates[7]) == ("1", "7 min ago", "0", "no consumer")
    assert (await row_of("cleanup.tokens"))[6] == "1"
    assert await row_of("wait.5m") == ["wait.5m", "1"]
    link = await browser_page.get_by_role("link", name="rates.update").get_attribute("href")
    assert "@" not in link
    await check_page(browser_page, "queues")


async def test_triggering_and_requeueing_work_without_javascript(
    plain_page: Page, die: Die, publisher: Publisher, database: Database
):
    await plain_page.goto("/trigger/rates.update")
    await plain_page.get_by_role("button", name="Continue").click()
    await plain_page.get_by_role("button", name="Publish").click()
    assert await plain_page.inner_text("h1") == "Published"
    assert len(await in_queue(publisher, "rates.update")) == 1

    await die("by-hand-1", body=b"{}")
    await plain_page.goto("/dead")
    await plain_page.get_by_label("Select by-hand-1").check()
    await plain_page.get_by_role("button", name="Requeue").click()
    assert "1 requeued" in await plain_page.get_by_role("status").inner_text()
    (message,) = await in_queue(publisher, "cleanup.tokens")
    assert message.message_id == "by-hand-1"
    assert (await last_action(database))["target"] == "by-hand-1"
