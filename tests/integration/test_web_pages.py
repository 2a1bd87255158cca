"""What the overview, the schedule and the list of actions show, and how an entry is paused and run."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from console import contracts
from console.web.server import WebApp
from consumers.mail import log_search
from consumers.moderation.review import decision_search
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings, load
from tests.fixtures.servers import Servers
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"
ENTRY = "clean-sessions-daily"
OUTCOMES = ("succeeded", "failed", "missed", "partial")


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """One database for all of these tests, with a few things that have happened."""
    name = f"test_{uuid4().hex[:12]}"
    servers.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    url = servers.postgresql(name)
    for number, outcome in enumerate(OUTCOMES):
        is_missed = outcome == "missed"
        run(
            url,
            "INSERT INTO fires (entry, due_at, state, message_id, reason, timetable, outcome, settled_at) VALUES "
            "(%s, now() - make_interval(hours => %s), %s, %s, %s, 'x', %s, now())",
            *(ENTRY, number + 1, "missed" if is_missed else "published", None if is_missed else f"fire-{number}"),
            *("no publisher was running" if is_missed else None, outcome),
        )
        if not is_missed:
            run(
                url,
                "INSERT INTO update_logs (job, entry, message_id, trigger, started_at, finished_at, status, worker) "
                "VALUES ('cleanup.sessions', %s, %s, 'schedule', now() - interval '4 s', now(), %s, 'w')",
                *(ENTRY, f"fire-{number}", outcome),
            )
    run(
        url,
        "INSERT INTO update_logs (job, message_id, trigger, status, finished_at, error, worker, next_attempt_at) "
        "VALUES (%s, %s, 'manual', 'failed', now(), %s, 'w', now() + interval '5 min')",
        *("rates.update", HOSTILE.replace("\x00", ""), HOSTILE),
    )
    run(
        url,
        "INSERT INTO incidents (kind, subject, detail, remedy) VALUES ('stale_rates', %s, %s, 'run: pocketwatch')",
        *(HOSTILE, HOSTILE),
    )
    run(
        url,
        "INSERT INTO operator_actions (actor, source, action, target, reason, before, after) "
        "VALUES (%s, 'cli', 'archive.restore', 'ad 7', %s, '{\"status\": \"archived\"}', '{\"status\": \"sold\"}')",
        *(HOSTILE, HOSTILE),
    )
    yield url
    servers.sql(f"DROP DATABASE {name} WITH (FORCE)")


def run(url: str, sql: str, *values: object) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode(), values)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def settings(database_url: str, servers: Servers, tmp_path: Path) -> Settings:
    """Settings without a broker."""
    values = {"DATABASE_URL": database_url, "RABBITMQ_URL": "amqp://127.0.0.1:9", "POCKETWATCH_PATIENCE": "5s"}
    return load(values, folder=tmp_path)


@pytest.fixture
async def web(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without JavaScript."""
    async with WebApp(settings, port=0) as started, browser_at(started.url) as browser:
        yield browser


def browser_at(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False, follow_redirects=True)


def token_of(page: httpx.Response) -> str:
    found = re.search('name="csrf_token" value="([0-9a-f]+)"', page.text)
    assert found is not None, page.text
    return found[1]


async def test_overview_shows_what_is_wrong_and_what_happened(web: httpx.AsyncClient):
    page = await web.get("/")

    assert page.status_code == 200, page.text
    incidents = page.text.partition("<h2")[2].partition("</section>")[0]
    assert "stale rates" in incidents
    assert "run: pocketwatch" in incidents
    assert 'aria-label="the last 4: 1 failed, 1 missed, 1 partial, 1 succeeded"' in page.text
    assert "4.00 s" in page.text
    row = page.text.partition(f'scope="row">{ENTRY}</th>')[2].partition("</tr>")[0]
    assert re.findall(r'class="number">(\d+)', row)[:5] == ["1", "1", "1", "1", "0"]  # done, partly, failed, missed
    assert re.search(r'href="/retries">Waiting for a retry</a><div class="figure">1<', page.text)
    assert "RabbitMQ" in page.text  # is away


async def test_schedule_shows_each_entry_and_why_it_exists(web: httpx.AsyncClient):
    listed, one, unknown = [await web.get(f"/schedule{path}") for path in ("", f"/{ENTRY}", "/nope")]

    assert f'<a href="/schedule/{ENTRY}">' in listed.text
    assert "No publisher runs" in listed.text
    assert one.status_code == 200
    assert "cleanup.sessions" in one.text
    assert "no publisher was running" in one.text
    assert unknown.status_code == 404


async def test_why_explains_a_fire_and_refuses_what_is_no_time(web: httpx.AsyncClient):
    last, wrong = [await web.get(f"/schedule/{ENTRY}/why", params=query) for query in ({}, {"at": "noon"})]

    assert last.status_code == 200, last.text
    assert ">planned</td>" in last.text
    assert wrong.status_code == 422
    assert "time &#34;noon&#34;: not a time" in wrong.text


async def test_a_year_of_the_schedule_is_simulated(web: httpx.AsyncClient):
    page = await web.get("/schedule/simulate", params={"days": 7})

    assert page.status_code == 200, page.text
    assert f'<a href="/schedule/{ENTRY}">' in page.text
    assert "<h2>Clock changes</h2>" in page.text


async def test_contract_of_the_messages_is_served(web: httpx.AsyncClient):
    described = await web.get("/asyncapi.json")

    assert described.headers["content-type"] == "application/json"
    assert described.json() == contracts.asyncapi_document()


@pytest.mark.parametrize("path", ["/", "/schedule", f"/schedule/{ENTRY}", "/runs", "/retries", "/actions"])
async def test_text_of_others_is_shown_as_text(web: httpx.AsyncClient, path: str):
    page = await web.get(path)

    assert page.status_code == 200
    assert not {"\x1b", "\u202e"} & set(page.text)
    assert "<script>" not in page.text
    if path in ("/", "/actions"):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m\\u202e" in page.text


async def test_actions_are_filtered_and_show_what_changed(web: httpx.AsyncClient):
    page, other = await web.get("/actions?action=archive"), await web.get("/actions?target=nothing")

    assert "<del>archived</del> → <ins>sold</ins>" in page.text
    assert "No action matches the filter." in other.text


async def test_part_of_a_page_is_refreshed_by_itself(web: httpx.AsyncClient):
    part = await web.get("/actions", headers={"hx-request": "true"})

    assert part.text.strip().startswith("<h1>Actions</h1>")
    assert "<html" not in part.text


async def test_parts_of_a_page_that_refused_a_form_are_refreshed(web: httpx.AsyncClient):
    url = f"/schedule/{ENTRY}"
    form = {"csrf_token": token_of(await web.get(url)), "reason": " "}

    refused = await web.post(f"{url}/pause", data=form)
    parts = {unescape(each) for each in re.findall('hx-get="([^"]+)"', refused.text)}
    answers = [await web.get(each, headers={"hx-request": "true"}) for each in parts]

    assert refused.status_code == 422
    assert [each.status_code for each in answers] == [200]


async def test_entry_is_paused_changed_and_resumed(web: httpx.AsyncClient, database_url: str):
    url = f"/schedule/{ENTRY}"
    form = {"csrf_token": token_of(await web.get(url))}

    refused = await web.post(f"{url}/pause", data=form | {"reason": " ", "for": "soon"})
    paused = await web.post(f"{url}/pause", data=form | {"reason": "the disk is full", "for": "2d"})
    changed = await web.post(f"{url}/pause", data=form | {"reason": "still full", "for": ""})
    overview = await web.get("/")
    resumed = await web.post(f"{url}/resume", data=form)
    again = await web.post(f"{url}/resume", data=form)

    assert refused.status_code == 422
    assert "a reason is required" in refused.text
    assert 'value="soon"' in refused.text
    assert "not a duration" in refused.text
    assert f"{ENTRY} is paused for 2d." in paused.text
    assert "the disk is full" in paused.text
    assert "it is paused until it is resumed" in changed.text
    assert '<span class="badge warn">paused</span>' in overview.text
    assert f"{ENTRY} fires again." in resumed.text
    assert "is not paused" in again.text
    recorded = run(
        database_url, "SELECT action, reason, before->>'reason' FROM operator_actions WHERE target = %s", ENTRY
    )
    assert recorded == [
        ("schedule.pause", "the disk is full", None),
        ("schedule.pause", "still full", "the disk is full"),
        ("schedule.resume", None, "still full"),
    ]


async def test_entry_is_run_now(settings: Settings, servers: Servers, vhosts, database_url: str):
    vhost = vhosts.take(declared=True)
    url = f"/schedule/{ENTRY}"
    at_broker = settings.servers.model_copy(update={"rabbitmq_url": servers.amqp(vhost)})
    async with (
        Publisher([servers.amqp(vhost)], role="test", topology=TOPOLOGY),
        WebApp(settings.model_copy(update={"servers": at_broker}), port=0) as app,
        browser_at(app.url) as web,
    ):

        async def published() -> httpx.Response | None:
            page = await web.post(f"{url}/run", data={"csrf_token": token_of(await web.get(url))})
            return page if "was published as" in page.text else None

        await eventually(published)  # once the broker is connected
        overview = await web.get("/")
    vhosts.give_back(vhost)

    assert '<a href="/queues#cleanup.sessions">' in overview.text
    (after,) = run(database_url, "SELECT after FROM operator_actions WHERE action = 'schedule.run'")[0]
    assert after["job"] == "cleanup.sessions"


async def test_page_says_that_the_database_is_away_and_comes_back(
    settings: Settings, database_url: str, servers: Servers
):
    host, port = re.search(r"@([\d.]+):(\d+)", database_url).groups()  # type: ignore[union-attr]
    async with Proxy(host, int(port)) as proxy:
        through = settings.servers.model_copy(update={"database_url": proxy.through(database_url)})
        async with (
            WebApp(settings.model_copy(update={"servers": through}), port=0) as app,
            browser_at(app.url) as web,
        ):
            assert (await web.get("/")).status_code == 200
            await proxy.cut()
            away = await web.get("/")
            await proxy.open()

            assert away.status_code == 503
            assert "<h1>The database is unavailable</h1>" in away.text
            assert "Load the page again" in away.text

            async def is_back() -> bool:
                return (await web.get("/")).status_code == 200

            await eventually(is_back)


async def test_open_page_hears_of_changes(web: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("console.web.changes.INTERVAL", 0.1)

    async def listen() -> None:
        async with web.stream("GET", "/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            async for line in stream.aiter_lines():
                if line == "event: incidents":
                    return

    listening = asyncio.create_task(listen())

    async def has_heard() -> bool:
        run(database_url, "UPDATE incidents SET seen_at = now()")
        return listening.done()

    await eventually(has_heard)
    await listening


async def test_taken_port_is_named_with_the_remedy(settings: Settings):
    async with WebApp(settings, port=0) as first:
        port = int(first.url.rpartition(":")[2])

        with pytest.raises(PocketwatchError, match=rf"port {port} of 127.0.0.1 is taken.*--port {port + 1}"):
            await WebApp(settings, port=port).__aenter__()


async def test_cards_count_among_the_newest_and_what_is_not_sent_in_full(
    web: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(log_search, "MAX_COUNTED", 3)
    monkeypatch.setattr(decision_search, "MAX_COUNTED", 3)
    run(
        database_url,
        "INSERT INTO moderation_notification_logs (method, recipient, status, error_message, sent_at, external_id) "
        "SELECT 'email', 'a@example.com', CASE WHEN n IN (1, 7) THEN 'failed' ELSE 'sent' END, '', now(), '' "
        "FROM generate_series(1, 7) AS n",
    )
    run(
        database_url,
        "INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor) "
        "SELECT n, 'approve', 'pending', 'active', '', 'rules' FROM generate_series(1, 5) AS n",
    )

    emails, decisions = await web.get("/emails"), await web.get("/moderation?action=approve&since=all")

    figures = [re.findall('class="figure">([0-9]+)<', page.text) for page in (emails, decisions)]
    assert figures == [["2", "2", "2"], ["3"]]  # sent, failed, not delivered
    assert "Sent emails are counted among the newest 3 emails." in emails.text
    assert "Counted among the newest 3 decisions." in decisions.text
    assert decisions.text.count("/moderation/ads/") == 5
