"""`/queues`: depth, age and consumers of each queue, its dead letters, and the delay queues."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import quote, urlsplit

from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.web.queues import QueueState
from console.web.rendering import render
from console.web.resources import resources_of
from pocketwatch.broker.connection import vhost_of
from pocketwatch.broker.declare import queues_info
from pocketwatch.broker.management import FAILED, ManagementApi, reason_of
from pocketwatch.broker.topology import TOPOLOGY, Topology, with_celery
from pocketwatch.settings import Settings
from pocketwatch.storage import queue_history


async def queues(request: Request) -> Response:
    resources = resources_of(request)
    states = await resources.queues()
    delays = await queues_info(resources.publisher.connection, [each.name for each in TOPOLOGY.delay_queues])
    topology = with_celery(resources.settings.bridge.celery_queue)
    async with resources.read() as connection:
        claimed = await queue_history.consumed(connection)
        since = await _waiting_since(connection, topology, [each.name for each in states if each.waiting])
    held, management_problem = await _held(resources.management)
    return render(
        request,
        "web/queues.html",
        states=[(each, _problem(each, claimed.get(each.name, 0))) for each in states],
        claimed=claimed,
        since=since,
        held=held,
        delays=[(each.name, (delays[each.name] or (0, 0))[0]) for each in TOPOLOGY.delay_queues],
        management_problem=management_problem,
        management_ui=_management_ui(resources.settings),
        quote=lambda name: quote(name, safe=""),
    )


def _problem(state: QueueState, claimed: int) -> str | None:
    if state.waiting is None:
        return "does not exist; run: pocketwatch migrate"
    if not state.consumers:
        return "no consumer" + (f"; processes that report to consume it: {claimed}" if claimed else "")
    return None


async def _waiting_since(
    connection: AsyncConnection, topology: Topology, waiting: Iterable[str]
) -> dict[str, datetime]:
    """Return since when messages wait in these queues, as far as the suite has published them itself."""
    wanted, found = set(waiting), dict[str, datetime]()
    if not wanted:
        return found
    for exchange, routing_key, sent_at in await queue_history.not_begun(connection):
        for queue in topology.route(exchange, routing_key):
            if queue.name in wanted:
                found[queue.name] = min(sent_at, found.get(queue.name, sent_at))
    return found


async def _held(management: ManagementApi | None) -> tuple[Mapping[str, int], str | None]:
    """Return how many messages consumers hold of each queue; or why it is not known."""
    if management is None:
        return {}, "RABBITMQ_MANAGEMENT_URL is not set"
    try:
        found = await management.queues()
    except FAILED as error:
        return {}, reason_of(error)
    return {str(each["name"]): int(each.get("messages_unacknowledged", 0)) for each in found}, None


def _management_ui(settings: Settings) -> str | None:
    """Return the address of the queues in RabbitMQ's own UI, without a password."""
    if settings.servers.rabbitmq_management_url is None:
        return None
    url = urlsplit(str(settings.servers.rabbitmq_management_url))
    vhost = quote(vhost_of(settings.rabbitmq_urls[0]), safe="")
    host = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{host}{url.path.rstrip('/')}/#/queues/{vhost}/"


ROUTES: list[BaseRoute] = [Route("/queues", queues)]
