"""Access to the console: who may sign in, what a session may do, and how it ends."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import jwt
import psycopg
import pytest

from console.web import users
from console.web.access import passwords
from console.web.access.rate_limit import PER_NAME
from console.web.access.sessions import COOKIE
from console.web.server import WebApp
from pocketwatch.errors import PocketwatchError, SettingsError
from pocketwatch.settings import Settings, Web, load
from pocketwatch.storage.database import Database

KEY = "0123456789abcdef0123456789abcdef"
PASSWORD = "correct horse battery"
# As Django's default hasher, its argon2 and its scrypt hasher write "correct horse battery".
PBKDF2 = "pbkdf2_sha256$1000$salt$hHq2CwjSpsUCltVF/ZDe25M5jA5hBHN9+inXRaOGbjU="

Console = Callable[..., Any]


@pytest.fixture
def console(settings: Settings) -> Console:
    """`async with console(sign_in="users") as browser`: a console with these settings, and a browser at it."""

    @asynccontextmanager
    async def opened(**web: str) -> AsyncIterator[httpx.AsyncClient]:
        names = {f"POCKETWATCH_WEB_{name.upper()}": value for name, value in web.items()}
        changed = settings.model_copy(update={"web": Web.model_validate({"POCKETWATCH_WEB_SECRET_KEY": KEY} | names)})
        async with WebApp(changed, port=0) as started:
            yield httpx.AsyncClient(base_url=started.url, trust_env=False)

    return opened


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
    await change(users.add, "olena", PASSWORD, role="operator")
    return "olena"


@pytest.fixture
async def viktor(change) -> str:
    """A viewer."""
    await change(users.add, "viktor", PASSWORD, role="viewer")
    return "viktor"


def rows(database_url: str, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        cursor = connection.execute(sql.encode(), values)
        return cursor.fetchall() if cursor.description else []


async def test_pages_need_a_sign_in(console: Console, olena: str, database_url: str):
    async with console(sign_in="users") as browser:
        away = await browser.get("/actions")
        events, form = await browser.get("/events"), await browser.post("/theme", data={"theme": "dark"})
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
        assert "olena" in page.text
        assert "Sign out" in page.text
    recorded = rows(database_url, "SELECT actor, source, action FROM operator_actions ORDER BY id")
    assert recorded == [("test", "cli", "web.user_add"), ("olena", "web", "web.sign_in")]


@pytest.mark.parametrize("target", ["https://attacker.example/", "//attacker.example", "/\\attacker.example"])
async def test_sign_in_leads_to_no_other_site(console: Console, olena: str, target: str):
    async with console(sign_in="users") as browser:
        assert (await sign_in(browser, olena, next=target)).headers["location"] == "/"


async def test_wrong_password_and_unknown_name_look_the_same(console: Console, olena: str, log_lines):
    async with console(sign_in="users,staff") as browser:
        wrong = await sign_in(browser, olena, "wrong password 1")
        unknown = await sign_in(browser, "nemo", "wrong password 1")

    assert (wrong.status_code, unknown.status_code) == (401, 401)
    same = [re.sub('value="[^"]*"', "", page.text.partition("<main")[2].partition("<footer")[0]) for page in (wrong, unknown)]
    assert same[0] == same[1]
    failures = [line for line in log_lines if line["event"] == "web.sign_in_failed"]
    assert [line["name"] for line in failures] == ["olena", "nemo"]
    assert "wrong password 1" not in str(log_lines)


async def test_unknown_name_costs_a_verification(monkeypatch: pytest.MonkeyPatch):
    verified = []
    original = passwords.HASHER.verify
    monkeypatch.setattr(
        passwords, "HASHER", type("Counting", (), {"verify": lambda _, *each: verified.append(each) or original(*each)})()
    )

    assert not await passwords.verify(None, "an account that does not exist")

    assert len(verified) == 1


async def test_too_many_wrong_passwords_are_refused(console: Console, olena: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("console.web.pages.sign_in.FAILURE_TAKES", 0.0)
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


async def test_forged_and_expired_sessions_are_refused(console: Console, olena: str):
    async with console(sign_in="users") as browser:
        await sign_in(browser, olena)
        claims = jwt.decode(browser.cookies[COOKIE], options={"verify_signature": False})
    forged = jwt.encode(claims, KEY, "HS256")
    unsigned = jwt.encode(claims, None, "none")
    async with console(sign_in="users") as browser:
        for token in (forged, unsigned, "x", ""):
            assert (await browser.get("/", headers={"cookie": f"{COOKIE}={token}"})).status_code == 303


async def test_session_expires(console: Console, settings: Settings, olena: str, database: Database):
    from console.web.access import Access

    web = settings.web.model_copy(update={"sign_in": ("users",), "session_lifetime": timedelta(seconds=-1)})
    access = Access(web.model_copy(update={"secret_key": Web.model_validate({"POCKETWATCH_WEB_SECRET_KEY": KEY}).secret_key}), database)
    expired = await access.sign_in(olena, PASSWORD, address="")
    async with console(sign_in="users") as browser:
        assert (await browser.get("/", headers={"cookie": f"{COOKIE}={expired.token}"})).status_code == 303


async def test_viewer_sees_and_changes_nothing(console: Console, viktor: str, database_url: str):
    async with console(sign_in="users") as browser:
        await sign_in(browser, viktor)
        page = await browser.get("/schedule")
        assert page.status_code == 200
        assert "/pause" not in page.text

        refused = await browser.post(
            "/schedule/clean-sessions-daily/pause", data={"csrf_token": token_of(page), "reason": "test"}
        )

        assert refused.status_code == 403
        assert "only operators" in refused.text
    assert rows(database_url, "SELECT 1 FROM schedule_pauses") == []


async def test_form_token_of_another_session_is_refused(console: Console, olena: str, viktor: str):
    async with console(sign_in="users") as browser:
        await sign_in(browser, viktor)
        token = token_of(await browser.get("/"))
        await sign_in(httpx.AsyncClient(base_url=browser.base_url), olena)
        browser.cookies.clear()
        await sign_in(browser, olena)

        assert (await browser.post("/theme", data={"csrf_token": token, "theme": "dark"})).status_code == 403


STAFF = "INSERT INTO auth_user (email, password, is_active, is_staff, is_superuser) VALUES (%s, %s, %s, %s, %s)"


async def test_staff_of_the_platform_signs_in(console: Console, database_url: str):
    rows(database_url, STAFF, "Boss@example.com", PBKDF2, True, True, True)
    rows(database_url, STAFF, "staff@example.com", passwords.hash_password(PASSWORD).replace("$argon2id", "argon2$argon2id"), True, True, False)
    rows(database_url, STAFF, "gone@example.com", PBKDF2, False, True, True)
    rows(database_url, STAFF, "buyer@example.com", PBKDF2, True, False, False)
    rows(database_url, STAFF, "unusable@example.com", "!unusable", True, True, True)
    for name, role in (("Boss@example.com", "operator"), ("staff@example.com", "viewer")):
        async with console(sign_in="users,staff") as browser:
            assert (await sign_in(browser, name)).status_code == 303
            assert f'<span class="muted">{role}</span>' in (await browser.get("/actions")).text
    async with console(sign_in="staff") as browser:
        for name in ("gone@example.com", "buyer@example.com", "unusable@example.com"):
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
        browser.headers |= {"x-forwarded-proto": "https", "host": "console.example.com"}
        token = token_of(await browser.get("/sign-in"))
        browser.cookies.jar.clear()

        page = await browser.get("/sign-in")
        form = {"csrf_token": token_of(page), "name": olena, "password": PASSWORD}
        cookie = page.headers["set-cookie"].partition(";")[0]
        entered = await browser.post("/sign-in", data=form, headers={"cookie": cookie})

        assert token
        assert entered.status_code == 303
        assert "secure" in entered.headers["set-cookie"].lower()


async def test_proxy_in_front_of_a_console_without_sign_in_is_refused(console: Console):
    async with console() as browser:
        assert (await browser.get("/", headers={"x-forwarded-for": "198.51.100.7"})).status_code == 403


@pytest.mark.parametrize(
    ("host", "variables", "words"),
    [
        ("0.0.0.0", {}, "reachable from other machines"),
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


async def test_users_are_managed_by_the_command(pocketwatch, database_url: str):
    import subprocess, sys

    def with_password(password: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "pocketwatch", "web", "user", *arguments],
            env=pocketwatch.environment, cwd=pocketwatch.folder, input=f"{password}\n", capture_output=True, text=True, check=False,
        )

    short = with_password("short", "add", "olena")
    added = with_password(PASSWORD, "add", "olena", "--role", "operator")
    again = with_password(PASSWORD, "add", "olena")
    changed = with_password("another long password", "password", "olena")
    listed = pocketwatch.json("web", "user", "list")
    viewer = pocketwatch("web", "user", "role", "olena", "viewer")
    removed = pocketwatch("web", "user", "remove", "olena")
    unknown = pocketwatch("web", "user", "remove", "olena")

    assert short.returncode == 1
    assert "has 5 characters; use 12 to" in short.stderr
    assert [each.returncode for each in (added, again, changed, viewer, removed, unknown)] == [0, 1, 0, 0, 0, 1]
    assert PASSWORD not in added.stdout + added.stderr
    assert [(row["name"], row["role"]) for row in listed] == [("olena", "operator")]
    assert [row[0] for row in rows(database_url, "SELECT action FROM operator_actions ORDER BY id")] == [
        "web.user_add", "web.user_password", "web.user_role", "web.user_remove",
    ]
