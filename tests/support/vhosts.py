"""Vhosts that are used again: to declare all queues for each test would take most of the time of the tests."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import aio_pika
import httpx

from pocketwatch.broker.topology import TOPOLOGY, Topology, with_celery

EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
LOOKS = 20  # at what a test that is over has left behind; its connections end within moments
PAUSE = 0.1  # seconds between two of them
WITHIN = 10.0  # seconds
MOST_FREE = 2  # each has dozens of quorum queues, which the broker looks after every few seconds, used or not
TOPOLOGIES = (with_celery("celery"), TOPOLOGY)  # consumers declare the first one


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
        """Keep it for another test, emptied, if few are kept and it is as it was made; else delete it."""
        if len(self._free) < MOST_FREE and (topology := self._declared_in(name)):
            self._delete_others(name, topology)
            if self._is_as_made(name, topology) and self._empty(name, topology):
                self._free.append(name)
                return
        self.api.delete(f"/vhosts/{name}").raise_for_status()

    def _declared_in(self, name: str) -> Topology | None:
        """Return the topology whose queues are all there."""
        found = self._names(name, "queues")
        return next((each for each in TOPOLOGIES if {queue.name for queue in each.own_queues} <= found), None)

    def _delete_others(self, name: str, topology: Topology) -> None:
        """Delete what is declared for one test only, such as the queues and exchanges of Celery."""
        ours = {
            "queues": {queue.name for queue in topology.own_queues},
            "exchanges": {exchange.name for exchange in topology.all_exchanges},
        }
        for kind, names in ours.items():
            for other in self._names(name, kind) - names:
                self.api.delete(f"/{kind}/{name}/{quote(other, safe='')}")

    def _names(self, name: str, kind: str) -> set[str]:
        """Return the names of all queues, or of all exchanges but the broker's own ones."""
        found = {each["name"] for each in self._all(f"{kind}/{name}", "name")}
        return {each for each in found if each and not each.startswith("amq.")}

    def _is_as_made(self, name: str, topology: Topology) -> bool:
        queues = {queue["name"]: arguments_of(queue) for queue in self._all(f"queues/{name}", "name,arguments")}
        wanted = {queue.name: dict(queue.arguments) for queue in topology.own_queues}
        bound = {(b["source"], b["destination"], b["routing_key"]) for b in self._all(f"bindings/{name}")}
        bindings = {(source.name, to.name, key) for source, to, key in topology.exchange_bindings} | {
            (exchange.name, queue.name, key) for queue in topology.own_queues for exchange, key in queue.bindings
        }
        return (
            queues == wanted
            and self._names(name, "exchanges") == {exchange.name for exchange in topology.all_exchanges}
            and {binding for binding in bound if binding[0]} == bindings
        )

    def _all(self, path: str, columns: str = "source,destination,routing_key") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(f"/{path}", params={"columns": columns}).raise_for_status().json()
        return found

    def _empty(self, name: str, topology: Topology) -> bool:
        """Return whether nothing consumes any more, and every message is gone; in a thread, as the loop may be busy."""
        result: list[bool] = []
        thread = threading.Thread(target=lambda: result.append(asyncio.run(self._purge(name, topology))))
        thread.start()
        thread.join()
        return result == [True]

    async def _purge(self, name: str, topology: Topology) -> bool:
        async with await aio_pika.connect(self.url.rpartition("/")[0] + f"/{name}", timeout=WITHIN) as connection:
            channel = await connection.channel()
            left = [queue.name for queue in topology.own_queues]
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
