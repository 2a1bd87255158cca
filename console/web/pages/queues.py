"""`/queues`: depth, age and consumers of each queue, its dead letters, and the delay queues."""

from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.operations import queues as operations
from console.web.rendering import render
from console.web.resources import resources_of
from pocketwatch.broker.connection import vhost_of
from pocketwatch.settings import Settings


async def queues(request: Request) -> Response:
    resources = resources_of(request)
    publisher = resources.publisher
    async with resources.read() as connection:
        found = await operations.states(publisher, connection, resources.settings, resources.management)
    return render(
        request,
        "web/queues.html",
        states=found,
        management_ui=_management_ui(resources.settings),
        quote=lambda name: quote(name, safe=""),
    )


def _management_ui(settings: Settings) -> str | None:
    """Return the address of the queues in RabbitMQ's own UI, without a password."""
    if settings.servers.rabbitmq_management_url is None:
        return None
    url = urlsplit(str(settings.servers.rabbitmq_management_url))
    vhost = quote(vhost_of(settings.rabbitmq_urls[0]), safe="")
    host = url.netloc.rpartition("@")[2]
    return f"{url.scheme}://{host}{url.path.rstrip('/')}/#/queues/{vhost}/"


ROUTES: list[BaseRoute] = [Route("/queues", queues)]
