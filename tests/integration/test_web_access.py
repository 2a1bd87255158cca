"""Access to the console: who may sign in, what a session may do, and how it ends."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
import typer
from argon2 import PasswordHasher
from click.testing import CliRunner, Result

from console.cli import main
from console.web import users
from console.web.access import Access, passwords
from console.web.access.access import SignedIn
from console.web.access.rate_limit import PER_NAME
from console.web.access.sessions import COOKIE
from console.web.server import WebApp
from pocketwatch.errors import SettingsError
from pocketwatch.settings import Settings, Web, load
from pocketwatch.storage.database import Database
from tests.fixtures.servers import Servers

KEY = "0123456789abcdef0123456789abcdef"
PASSWORD = "correct horse battery"
# As Django's default hasher, its argon2 and its scrypt hasher write "correct horse battery".
PBKDF2 = "pbkdf2_sha256$1000$salt$hHq2CwjSpsUCltVF/ZDe25M5jA5hBHN9+inXRaOGbjU="

Console = Callable[..., Any]


@pytest.fixture(scope="module")
def database_url(servers: Servers, template: str) -> Iterator[str]:
    """One database for all of these tests: each has users of its own."""
    name = f"test_{uuid4().hex[:12]}"
    servers.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield servers.postgresql(name)
    servers.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings without a broker: who may sign in does not depend on it."""
    values = {"DATABASE_URL": database_url, "RABBITMQ_URL": "amqp://127.0.0.1:9", "POCKETWATCH_PATIENCE": "5s"}
    return load(values, folder=tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash cheaply, and answer wrong passwords at once."""
    monkeypatch.setattr(passwords, "HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    monkeypatch.setattr("console.web.pages.sign_in.FAILURE_TAKES", 0.0)


@pytest.fixture
def console(settings: Settings) -> Console:
    """`async with console(sign_in="users") as browser`: a console with these settings, and a browser at it."""

    @asynccontextmanager
    async def opened(**web: str) -> AsyncIterator[httpx.AsyncClient]:
        async with WebApp(with_web(settings, **web), port=0) as started, browser_at(started.url) as browser:
            yield browser

    return opened


def with_web(settings: Settings, **web: str) -> Settings:
    values = {f"POCKETWATCH_WEB_{name.upper()}": value for name, value in ({"secret_key": KEY} | web).items()}
    return settings.model_copy(update={"web": Web.model_validate(values)})


def browser_at(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, trust_env=False)


def token_of(page: httpx.Response) -> str:
    found = re.search('name="csrf_token" value="([0-9a-f]+)"', page.text)
    assert found is not None, page.text
    return found[1]


async def sign_in(browser: httpx.AsyncClient, name: str, password: str = PASSWORD, **fields: str) -> httpx.Response:
    token = token_of(await browser.get("/sign-in"))
    return await browser.post("/sign-in", data={"csrf_token": token, "name": name, "password": password, **fields})


@pytest.fixture
def change(database: Database) -> Callable[..., Awaitable[None]]:
    async def changed(what: Callable[..., Awaitable[None]], *arguments: Any, **options: Any) -> None:
        async with database.begin() as connection:
            await what(connection, *arguments, actor="test", source="cli", **options)

    return changed


@pytest.fixture
async def olena(change) -> str:
    """An operator."""
    name = f"olena-{uuid4().hex[:8]}"
    await change(users.add, name, PASSWORD, role="operator")
    return name


@pytest.fixture
async def viktor(change) -> str:
    """A viewer."""
    name = f"viktor-{uuid4().hex[:8]}"
    await change(users.add, name, PASSWORD, role="viewer")
    return name


def rows(database_url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode(), values)
        return cursor.fetchall() if cursor.description else []


async def test_pages_need_a_sign_in(console: Console, olena: str, database_url: str):
    async with console(sign_in="users") as browser:
        away = await browser.get("/actions")
        contract = await browser.get("/asyncapi.json")
        events, form = await browser.get("/events"), await browser.post("/theme", data={"theme": "dark"})
        assert (contract.status_code, contract.headers["location"]) == (303, "/sign-in?next=/asyncapi.json")
        assert (away.status_code, away.headers["location"]) == (303, "/sign-in?next=/actions")
        assert (events.status_code, form.status_code) == (401, 401)

        entered = await sign_in(browser, olena, next="/actions")

        assert (entered.status_code, entered.headers["location"]) == (303, "/actions")
        cookie = entered.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "max-age=43200" in cookie
        page = await browser.get("/actions")
        assert page.status_code == 200
        assert olena in page.text
        assert "Sign out" in page.text
    recorded = rows(database_url, "SELECT source, action FROM operator_actions WHERE actor = %s", olena)
    assert recorded == [("web", "web.sign_in")]


@pytest.mark.parametrize("target", ["https://attacker.example/", "//attacker.example", "/\\attacker.example"])
async def test_sign_in_leads_to_no_other_site(console: Console, olena: str, target: str):
    async with console(sign_in="users") as browser:
        assert (await sign_in(browser, olena, next=target)).headers["location"] == "/"


async def test_wrong_password_and_unknown_name_look_the_same(console: Console, olena: str, log_lines):
    async with console(sign_in="users") as browser:
        wrong = await sign_in(browser, olena, "wrong password 1")
        unknown = await sign_in(browser, "nemo", "wrong password 1")

    assert (wrong.status_code, unknown.status_code) == (401, 401)
    same = [
        re.sub('value="[^"]*"', "", page.text.partition("<main")[2].partition("<footer")[0])
        for page in (wrong, unknown)
    ]
    assert same[0] == same[1]
    failures = [line for line in log_lines if line["event"] == "web.sign_in_failed"]
    assert [line["name"] for line in failures] == [olena, "nemo"]
    assert "wrong password 1" not in str(log_lines)


async def test_unknown_name_costs_a_verification(monkeypatch: pytest.MonkeyPatch):
    verified: list[str] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002  its name there
            verified.append(str(hash))
            return super().verify(hash, password)

    monkeypatch.setattr(passwords, "HASHER", Counting())

    assert not await passwords.verify(None, "an account that does not exist")
    assert verified == [passwords.UNKNOWN]


async def test_too_many_wrong_passwords_are_refused(console: Console, olena: str):
    async with console(sign_in="users") as browser:
        answers = [(await sign_in(browser, olena, "wrong password")).status_code for _ in range(PER_NAME)]
        refused = await sign_in(browser, olena)

        assert answers == [401] * PER_NAME
        assert refused.status_code == 429
        assert "Too many attempts" in refused.text


async def signed_out(browser: httpx.AsyncClient, change, name: str) -> None:
    await browser.post("/sign-out", data={"csrf_token": token_of(await browser.get("/"))})


async def removed(browser: httpx.AsyncClient, change, name: str) -> None:
    await change(users.remove, name)


async def removed_and_added_again(browser: httpx.AsyncClient, change, name: str) -> None:
    await change(users.remove, name)
    await change(users.add, name, PASSWORD, role="operator")


async def new_password(browser: httpx.AsyncClient, change, name: str) -> None:
    await change(users.change, name, password="another long password")


async def new_role(browser: httpx.AsyncClient, change, name: str) -> None:
    await change(users.change, name, role="viewer")


@pytest.mark.parametrize("end", [signed_out, removed, removed_and_added_again, new_password, new_role])
async def test_session_ends(console: Console, change, olena: str, end):
    async with console(sign_in="users") as browser:
        await sign_in(browser, olena)
        session = browser.cookies[COOKIE]
        assert (await browser.get("/actions")).status_code == 200

        await end(browser, change, olena)

        browser.cookies.set(COOKIE, session)  # as one who has copied the cookie
        assert (await browser.get("/actions")).status_code == 303


async def test_forged_and_expired_sessions_are_refused(
    console: Console, settings: Settings, olena: str, database: Database
):
    expired = await Access(with_web(settings, sign_in="users").web, database).sign_in(olena, PASSWORD, address="")
    assert isinstance(expired, SignedIn)
    claims = jwt.decode(expired.token, options={"verify_signature": False})
    forged, unsigned = jwt.encode(claims, KEY, "HS256"), jwt.encode(claims, None, "none")
    async with console(sign_in="users") as browser:
        assert (await browser.get("/", headers={"cookie": f"{COOKIE}={expired.token}"})).status_code == 200
        for token in (forged, unsigned, "x", ""):
            assert (await browser.get("/", headers={"cookie": f"{COOKIE}={token}"})).status_code == 303
    short = with_web(settings, sign_in="users").web.model_copy(update={"session_lifetime": timedelta(seconds=-1)})
    expired = await Access(short, database).sign_in(olena, PASSWORD, address="")
    assert isinstance(expired, SignedIn)
    async with console(sign_in="users") as browser:
        assert (await browser.get("/", headers={"cookie": f"{COOKIE}={expired.token}"})).status_code == 303


async def test_viewer_sees_and_changes_nothing(console: Console, viktor: str, database_url: str):
    async with console(sign_in="users") as browser:
        await sign_in(browser, viktor)
        page = await browser.get("/schedule/clean-sessions-daily")
        assert page.status_code == 200
        assert "/pause" not in page.text

        refused = await browser.post(
            "/schedule/clean-sessions-daily/pause", data={"csrf_token": token_of(page), "reason": "test"}
        )

        assert refused.status_code == 403
        assert "Only operators" in refused.text
    assert rows(database_url, "SELECT 1 FROM schedule_pauses") == []


async def test_form_token_of_another_session_is_refused(console: Console, olena: str, viktor: str):
    async with console(sign_in="users") as browser, browser_at(str(browser.base_url)) as other:
        await sign_in(browser, olena)
        await sign_in(other, viktor)
        token = token_of(await other.get("/actions"))

        assert (await other.post("/theme", data={"csrf_token": token, "theme": "dark"})).status_code == 303
        assert (await browser.post("/theme", data={"csrf_token": token, "theme": "dark"})).status_code == 403


STAFF = "INSERT INTO auth_user (email, password, is_active, is_staff, is_superuser) VALUES (%s, %s, %s, %s, %s)"


async def test_staff_of_the_platform_signs_in(console: Console, database_url: str):
    rows(database_url, STAFF, "Boss@example.com", PBKDF2, True, True, True)
    rows(
        database_url,
        STAFF,
        "staff@example.com",
        passwords.hash_password(PASSWORD).replace("$argon2id", "argon2$argon2id"),
        True,
        True,
        False,
    )
    rows(database_url, STAFF, "gone@example.com", PBKDF2, False, True, True)
    rows(database_url, STAFF, "buyer@example.com", PBKDF2, True, False, False)
    rows(database_url, STAFF, "unusable@example.com", "!unusable", True, True, True)
    for name, role in (("Boss@example.com", "operator"), ("staff@example.com", "viewer")):
        async with console(sign_in="users,staff") as browser:
            assert (await sign_in(browser, name)).status_code == 303
            assert f'<span class="muted">{role}</span>' in (await browser.get("/actions")).text
    async with console(sign_in="staff") as browser:
        for name in ("nemo", "gone@example.com", "buyer@example.com", "unusable@example.com"):
            assert (await sign_in(browser, name)).status_code == 401
    async with console(sign_in="users") as browser:
        assert (await sign_in(browser, "Boss@example.com")).status_code == 401


async def test_trusted_proxy_names_the_user(console: Console):
    named = {"x-forwarded-user": "olena@example.com", "x-forwarded-proto": "https"}
    async with console(sign_in="proxy", trusted_proxies="127.0.0.0/8", proxy_operators="olena@example.com") as browser:
        page = await browser.get("/actions", headers=named)
        viewer = await browser.get("/actions", headers={"x-forwarded-user": "viktor"})
        unnamed = await browser.get("/actions")
        twice = await browser.get("/actions", headers=[("x-forwarded-user", "a"), ("x-forwarded-user", "b")])
    async with console(sign_in="proxy", trusted_proxies="192.0.2.1") as browser:
        untrusted = await browser.get("/actions", headers=named)

    assert 'olena@example.com <span class="muted">operator</span>' in page.text
    assert 'viktor <span class="muted">viewer</span>' in viewer.text
    assert unnamed.status_code == 303
    assert twice.status_code == 403
    assert untrusted.status_code == 403
    assert "not a trusted proxy" in untrusted.text


async def test_cookies_need_tls_where_the_browser_uses_it(console: Console, olena: str):
    async with console(sign_in="users", trusted_proxies="127.0.0.1", hosts="console.example.com") as browser:
        through = {"x-forwarded-proto": "https", "host": "console.example.com", "x-forwarded-for": "9.9.9.9, 192.0.2.8"}
        page = await browser.get("/sign-in", headers=through)
        form = {"csrf_token": token_of(page), "name": olena, "password": PASSWORD}
        cookie = page.headers["set-cookie"].partition(";")[0]

        entered = await browser.post("/sign-in", data=form, headers=through | {"cookie": cookie})

        assert entered.status_code == 303
        assert "; secure" in entered.headers["set-cookie"].lower()


async def test_proxy_in_front_of_a_console_without_sign_in_is_refused(console: Console):
    async with console() as browser:
        assert (await browser.get("/", headers={"x-forwarded-for": "198.51.100.7"})).status_code == 403


@pytest.mark.parametrize(
    ("host", "variables", "words"),
    [
        ("0.0.0.0", {}, "reachable from other machines"),  # noqa: S104
        ("::", {}, "reachable from other machines"),
        ("127.0.0.1", {"SIGN_IN": "users"}, "POCKETWATCH_WEB_SECRET_KEY is not set"),
        ("127.0.0.1", {"SIGN_IN": "proxy", "SECRET_KEY": KEY}, "POCKETWATCH_WEB_TRUSTED_PROXIES is not set"),
    ],
)
async def test_console_does_not_start_without_access(tmp_path, host: str, variables: dict[str, str], words: str):
    settings = load({f"POCKETWATCH_WEB_{name}": value for name, value in variables.items()}, folder=tmp_path)

    with pytest.raises(SettingsError, match=words):
        async with WebApp(settings, host=host, port=0):
            pass


def test_users_are_managed_by_the_command(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    command = typer.main.get_command(main.app)

    def user(*arguments: str, password: str = "") -> Result:
        return CliRunner().invoke(command, ["web", "user", *arguments], input=f"{password}\n")

    short = user("add", "petro", password="short")
    added = user("add", "petro", "--role", "operator", password=PASSWORD)
    again = user("add", "petro", password=PASSWORD)
    changed = user("password", "petro", password="another long password")
    viewer = user("role", "petro", "viewer")
    listed = user("list", "--json")
    removed = user("remove", "petro")
    unknown = user("remove", "petro")

    assert "has 5 characters; use 12 to" in str(short.exception)
    assert "exists already" in str(again.exception)
    assert "does not exist" in str(unknown.exception)
    done = (short, added, again, changed, viewer, removed, unknown)
    assert [each.exit_code for each in done] == [1, 0, 1, 0, 0, 0, 1]
    assert PASSWORD not in "".join(each.output for each in done)
    assert ("petro", "viewer") in [(row["name"], row["role"]) for row in json.loads(listed.stdout)]
    recorded = rows(database_url, "SELECT action FROM operator_actions WHERE target = 'petro' ORDER BY id")
    assert [row[0] for row in recorded] == ["web.user_add", "web.user_password", "web.user_role", "web.user_remove"]
