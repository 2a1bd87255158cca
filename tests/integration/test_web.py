"""The console's pages, served by a real server and requested over HTTP."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from console.web.server import WebApp
from pocketwatch.settings import Settings, load
from tests.fixtures.servers import Servers


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """One database for all of these tests."""
    name = f"test_{uuid4().hex[:12]}"
    servers.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield servers.postgresql(name)
    servers.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings without a broker."""
    return load({"DATABASE_URL": database_url, "RABBITMQ_URL": "amqp://127.0.0.1:9"}, folder=tmp_path)


@pytest.fixture
async def web(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A browser without JavaScript, at a console on the loopback."""
    async with WebApp(settings, port=0) as started, httpx.AsyncClient(base_url=started.url, trust_env=False) as client:
        yield client


async def test_pages_are_served_with_their_headings(web: httpx.AsyncClient):
    for path, heading in (("/", "Overview"), ("/actions", "Actions")):
        page = await web.get(path)

        assert page.status_code == 200, page.text
        assert f"<h1>{heading}</h1>" in page.text
        assert page.headers["cache-control"] == "no-store"
        assert "server" not in page.headers


async def test_page_is_protected_by_its_headers(web: httpx.AsyncClient):
    page = await web.get("/")

    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in page.text
    assert " style=" not in page.text


@pytest.mark.parametrize("host", ["attacker.example", "localhost.attacker.example:80", ""])
async def test_name_of_another_host_is_refused(web: httpx.AsyncClient, host: str):
    """A page of another site must not reach the console by having its name resolve to this machine."""
    assert (await web.get("/", headers={"host": host})).status_code == 421


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8080"])
async def test_names_of_the_loopback_are_served(web: httpx.AsyncClient, host: str):
    assert (await web.get("/", headers={"host": host})).status_code == 200


async def test_unknown_page_has_a_way_back(web: httpx.AsyncClient):
    page = await web.get("/nowhere")

    assert page.status_code == 404
    assert "<h1>Not Found</h1>" in page.text
    assert 'href="/"' in page.text


async def test_static_files_are_served(web: httpx.AsyncClient):
    for name in ("console.css", "console.js", "vendor/htmx.min.js", "icon.svg"):
        assert (await web.get(f"/static/{name}")).status_code == 200
    assert (await web.get("/static/../app.py")).status_code == 404


async def test_theme_is_kept_in_a_cookie(web: httpx.AsyncClient):
    page = await web.get("/actions")
    token = page.text.partition('name="csrf_token" value="')[2].partition('"')[0]

    changed = await web.post("/theme", data={"csrf_token": token, "theme": "dark", "back": "/actions"})

    assert (changed.status_code, changed.headers["location"]) == (303, "/actions")
    assert 'data-theme="dark"' in (await web.get("/actions")).text


async def test_form_of_another_page_is_refused(web: httpx.AsyncClient):
    token = (await web.get("/")).text.partition('name="csrf_token" value="')[2].partition('"')[0]
    form = {"csrf_token": token, "theme": "dark"}

    wrong_token = await web.post("/theme", data=form | {"csrf_token": "é"})
    no_token = await web.post("/theme", data={"theme": "dark"})
    foreign_site = await web.post("/theme", data=form, headers={"sec-fetch-site": "cross-site"})
    foreign_origin = await web.post("/theme", data=form, headers={"origin": "http://attacker.example"})

    assert {page.status_code for page in (wrong_token, no_token, foreign_site, foreign_origin)} == {403}
