"""Alarms of RabbitMQ: while one is raised, it reads no more from connections that publish."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from pocketwatch.stack.native.rabbitmq import RabbitMQ
from tests.fixtures.servers import Servers

Alarm = Literal["memory", "disk"]
RAISE = {"memory": ("set_vm_memory_high_watermark", "0"), "disk": ("set_disk_free_limit", "1000GB")}
CLEAR = {
    "memory": ("set_vm_memory_high_watermark", "absolute", "1GB"),
    "disk": ("set_disk_free_limit", "50MB"),
}


@asynccontextmanager
async def alarm(servers: Servers, *kinds: Alarm) -> AsyncIterator[None]:
    """Raise alarms on the test's node, and clear them at the end."""
    try:
        await asyncio.gather(*(asyncio.to_thread(rabbitmqctl, servers, *RAISE[kind]) for kind in kinds))
        assert await asyncio.to_thread(raised, servers) == set(kinds)
        yield
    finally:
        await asyncio.gather(*(asyncio.to_thread(rabbitmqctl, servers, *CLEAR[kind]) for kind in kinds))
    assert await asyncio.to_thread(raised, servers) == set()


def raised(servers: Servers) -> set[str]:
    """Return the alarms that are in force."""
    with servers.management as api:
        found = api.get("/health/checks/alarms").json()
    return {each["resource"].split()[0] for each in found.get("alarms", ())}


def connection_name(connection: dict[str, Any]) -> str:
    """Return the name that a client gave its connection; a new one has none yet, and no properties but a list."""
    properties = connection.get("client_properties")
    return str(properties.get("connection_name", "")) if isinstance(properties, dict) else ""


def rabbitmqctl(servers: Servers, *arguments: str) -> None:
    node = servers.stack._snapshot().backend._servers["rabbitmq"]  # type: ignore[attr-defined]
    assert isinstance(node, RabbitMQ)
    scripts = node.require(node.context.programs.rabbitmq())
    command = [str(scripts / "rabbitmqctl"), "-q", "-n", node.context.node, *arguments]
    subprocess.run(command, cwd=node.make_home(), env=node._environment(), check=True, capture_output=True, timeout=60)
