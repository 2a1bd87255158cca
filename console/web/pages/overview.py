"""`/`: what is wrong, what happens, and what comes next."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.operations import entries
from console.web.queries import situation, timeline
from console.web.rendering import render
from console.web.resources import resources_of
from pocketwatch.errors import ServerUnreachable
from pocketwatch.storage import processes
from pocketwatch.storage.database import clock_time


async def overview(request: Request) -> Response:
    resources = resources_of(request)
    settings = resources.settings
    async with resources.read() as connection:
        now = await clock_time(connection)
        schedule = await entries.read(connection, file=settings.running.schedule, now=now)
        context: dict[str, Any] = {
            "incidents": await situation.incidents(connection),
            "recovered": await situation.recovered(connection),
            "timeline": await timeline.read(connection, schedule.entries, now),
            "entries": schedule.entries,
            "processes": await processes.known(connection, limit=30),
            "waiting": await situation.waiting(connection),
            "running": await situation.running(connection),
            "unpublished": await situation.unpublished(connection),
            "emails": await situation.emails(connection, now=now),
            "rates": await situation.rates(connection, settings.rates, now=now),
        }
    try:
        context |= {"queues": await resources.queues(), "broker_problem": None}
    except ServerUnreachable as error:
        context |= {"queues": [], "broker_problem": str(error)}
    return render(request, "web/overview.html", now=now, **context)


ROUTES: list[BaseRoute] = [Route("/", overview)]
