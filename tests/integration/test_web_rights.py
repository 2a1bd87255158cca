"""The console works with the rights that `grants --group web` prints, and no others."""

import re
import shlex
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg

from console import grants
from console.web.server import WebApp
from pocketwatch.broker.permissions import rabbitmqctl
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.settings import Settings, load
from pocketwatch.storage.privileges import statements
from tests.fixtures.limited import run_rabbitmqctl
from tests.fixtures.servers import Servers
from tests.support.waiting import eventually

PAGES = (
    *("/", "/schedule", "/schedule/clean-sessions-daily", "/runs", "/retries", "/dead", "/queues", "/emails"),
    *("/moderation", "/moderation/replay", "/analytics", "/analytics/rates", "/actions", "/trigger/cleanup.tokens"),
)


async def test_least_rights_are_enough(
    settings: Settings, servers: Servers, vhost: str, database_url: str, tmp_path: Path
):
    role = f"web_{uuid4().hex[:8]}"
    with psycopg.connect(database_url, autocommit=True) as connection:
        for statement in statements(role, grants.privileges_of(["web"]), grants.message_types_of(["web"])):
            connection.execute(statement.encode())
        connection.execute(f"ALTER ROLE {role} PASSWORD 'secret'".encode())
    with servers.management as api:
        for line in rabbitmqctl(role, vhost, grants.permissions_of(["web"], celery="celery")):
            run_rabbitmqctl(api, *shlex.split(line)[1:])
    try:
        async with Publisher(settings.rabbitmq_urls, role="test", topology=TOPOLOGY):
            await visit(limited(settings, role, tmp_path))
    finally:
        with servers.management as api:
            api.delete(f"/users/{role}")
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())


def limited(settings: Settings, role: str, folder: Path) -> Settings:
    values = {"DATABASE_URL": settings.database_url, "RABBITMQ_URL": settings.rabbitmq_urls[0]}
    return load({name: re.sub("//.*@", f"//{role}:secret@", url) for name, url in values.items()}, folder=folder)


async def visit(settings: Settings) -> None:
    async with (
        WebApp(settings, port=0) as app,
        httpx.AsyncClient(base_url=app.url, trust_env=False, follow_redirects=True) as browser,
    ):

        async def post(path: str, page: str, **fields: str) -> str:
            token = (await browser.get(page)).text.partition('name="csrf_token" value="')[2].partition('"')[0]
            return (await browser.post(path, data={"csrf_token": token, **fields})).text

        async def is_published() -> bool:
            entry = "/schedule/clean-sessions-daily"
            return "was published as" in await post(f"{entry}/run", entry)

        await eventually(is_published)
        assert [path for path in PAGES if (await browser.get(path)).status_code != 200] == []
        entry = "/schedule/clean-sessions-daily"
        assert "is paused" in await post(f"{entry}/pause", entry, reason="x")
        assert "fires again" in await post(f"{entry}/resume", entry)
