"""RabbitMQ's management API, which says what AMQP does not: limits, bindings, and who consumes. Only doctor asks it."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import httpx

from pocketwatch.broker.connection import OUR_CONNECTIONS
from pocketwatch.urls import is_loopback

TIMEOUT = 5.0  # seconds
FAILED = (httpx.HTTPError, ValueError)  # what a request may end with


@dataclass(frozen=True)
class QueueConsumer:
    """A consumer of a queue, as its connection describes it."""

    tag: str
    host: str
    connection_name: str  # empty, unless its program gives one
    product: str

    @property
    def is_ours(self) -> bool:
        return self.connection_name.startswith(OUR_CONNECTIONS)

    def __str__(self) -> str:
        name = f' as "{self.connection_name}"' if self.connection_name else ""
        return f'"{self.tag}" of {self.product} from {self.host}{name}'


class ManagementApi:
    """Reads what is in a vhost; each method may raise one of `FAILED`."""

    def __init__(self, url: str, vhost: str) -> None:
        self._vhost, self._stack = vhost, AsyncExitStack()
        self._client = httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=not is_loopback(httpx.URL(url).host))

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def queue(self, name: str) -> dict[str, Any] | None:
        """Return what the broker says of a queue; None when it does not exist."""
        found: dict[str, Any] | None = await self._get("queues", self._vhost, name)
        return found

    async def queues(self) -> list[dict[str, Any]]:
        """Return what the broker says of all queues of the vhost."""
        found: list[dict[str, Any]] = await self._get("queues", self._vhost) or []
        return found

    async def nodes(self) -> dict[str, bool]:
        """Return the cluster's nodes in order, and whether the one that answers sees each at work."""
        found = await self._get("nodes")
        return {each["name"]: bool(each["running"]) for each in sorted(found, key=lambda each: str(each["name"]))}

    async def policy(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._get("policies", self._vhost, name)
        return found

    async def queues_bound_to(self, exchange: str) -> list[str]:
        """Return the names of the queues that are bound to an exchange directly."""
        bindings = await self._get("exchanges", self._vhost, exchange, "bindings", "source") or []
        return sorted({each["destination"] for each in bindings if each["destination_type"] == "queue"})

    async def consumers_of(self, queue: dict[str, Any]) -> Sequence[QueueConsumer]:
        """Return the consumers of a queue that `queue` has returned; the API learns who they are after some seconds."""
        found = [await self._consumer(each) for each in queue.get("consumer_details") or ()]
        return [each for each in found if each is not None]

    async def _consumer(self, found: dict[str, Any]) -> QueueConsumer | None:
        channel = found.get("channel_details") or {}
        connection = await self._get("connections", channel["connection_name"]) if channel else None
        if connection is None:
            return None
        properties = connection.get("client_properties") or {}
        return QueueConsumer(
            tag=str(found.get("consumer_tag")),
            host=str(channel.get("peer_host", "an unknown host")),
            connection_name=str(properties.get("connection_name", "")),
            product=str(properties.get("product", "an unknown program")),
        )

    async def _get(self, *path: str) -> Any:
        reply = await self._client.get("/api/" + "/".join(quote(part, safe="") for part in path))
        return None if reply.status_code == httpx.codes.NOT_FOUND else reply.raise_for_status().json()


def reason_of(error: Exception) -> str:
    return f"not checked; the management API: {str(error) or type(error).__name__}"
