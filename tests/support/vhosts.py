"""Vhosts that are used again: to declare all queues for each test would take most of the time of the tests."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import aio_pika
import httpx

from pocketwatch.broker.topology import CELERY, Topology, with_celery

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
LOOKS = 20  # at what a test that is over has left behind; its connections end within moments
PAUSE = 0.1  # seconds between two of them
WITHIN = 10.0  # seconds


def arguments_of(queue: dict[str, Any]) -> dict[str, Any]:
    """Return what the queue was declared with; RabbitMQ 4 shows the type of one without arguments as an argument."""
    return {name: value for name, value in queue["arguments"].items() if (name, value) != ("x-queue-type", "classic")}


@dataclass
class Vhosts:
    """Those of one broker.

    A test whose topology is declared for it gets one that another test has left as it found it; any other a new one.
    """

    api: httpx.Client
    url: str
    _free: list[str] = field(default_factory=list)

    def take(self, *, declared: bool) -> str:
        """A vhost without a message; `declared`: exchanges and queues may be there already."""
        if declared and self._free:
            return self._free.pop()
        name = f"test-{uuid4().hex[:12]}"
        self.api.put(f"/vhosts/{name}").raise_for_status()
        user = urlsplit(self.url).username
        self.api.put(f"/permissions/{name}/{user}", json=EVERYTHING).raise_for_status()
        return name

    def give_back(self, name: str) -> None:
        """Keep it for another test, emptied, if it is as it was made; else delete it."""
        self.api.delete(f"/queues/{name}/{CELERY.name}")  # only the bridge declares it, where it is missing
        if self._is_as_made(name, with_celery("celery")) and self._empty(name):
            self._free.append(name)
        else:
            self.api.delete(f"/vhosts/{name}").raise_for_status()

    def _is_as_made(self, name: str, topology: Topology) -> bool:
        queues = {queue["name"]: arguments_of(queue) for queue in self._all(f"queues/{name}", "name,arguments")}
        wanted = {queue.name: dict(queue.arguments) for queue in topology.own_queues}
        bound = {(b["source"], b["destination"], b["routing_key"]) for b in self._all(f"bindings/{name}")}
        bindings = {(source.name, to.name, key) for source, to, key in topology.exchange_bindings} | {
            (exchange.name, queue.name, key) for queue in topology.own_queues for exchange, key in queue.bindings
        }
        exchanges = {found["name"] for found in self._all(f"exchanges/{name}", "name")}
        return (
            queues == wanted
            and {exchange for exchange in exchanges if exchange and not exchange.startswith("amq.")}
            == {exchange.name for exchange in topology.all_exchanges}
            and {binding for binding in bound if binding[0]} == bindings
        )

    def _all(self, path: str, columns: str = "source,destination,routing_key") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"/{path}", params={"columns": columns}).raise_for_status().json()
        return found

    def _empty(self, name: str) -> bool:
        """Return whether nothing consumes any more, and every message is gone; in a thread, as the loop may be busy."""
        result: list[bool] = []
        thread = threading.Thread(target=lambda: result.append(asyncio.run(self._purge(name))))
        thread.start()
        thread.join()
        return result == [True]

    async def _purge(self, name: str) -> bool:
        async with await aio_pika.connect(self.url.rpartition("/")[0] + f"/{name}", timeout=WITHIN) as connection:
            channel = await connection.channel()
            left = [queue.name for queue in with_celery("celery").own_queues]
            for _ in range(LOOKS):
                found = [await channel.declare_queue(queue, passive=True, timeout=WITHIN) for queue in left]
                left = [
                    queue.name
                    for queue in found
                    if queue.declaration_result.message_count or queue.declaration_result.consumer_count
                ]
                if not left:
                    return True
                for queue in left:
                    await (await channel.get_queue(queue, ensure=False)).purge(timeout=WITHIN)
                await asyncio.sleep(PAUSE)
        return False
