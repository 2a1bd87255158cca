"""`/`: what is wrong, what happens, and what comes next."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.operations import entries
from console.web.queries import situation, timeline
from console.web.rendering import render
from console.web.resources import Resources, resources_of
from pocketwatch.errors import ServerUnreachable
from pocketwatch.storage import processes
from pocketwatch.storage.database import clock_time


async def overview(request: Request) -> Response:
    resources = resources_of(request)
    recorded, queues = await asyncio.gather(_recorded(resources), _queues(resources))
    return render(request, "web/overview.html", **recorded, **queues)


async def _queues(resources: Resources) -> dict[str, Any]:
    try:
        return {"queues": await resources.queues(), "broker_problem": None}
    except ServerUnreachable as error:
        return {"queues": [], "broker_problem": str(error)}


async def _recorded(resources: Resources) -> dict[str, Any]:
    settings = resources.settings
    async with resources.read() as connection:
        now = await clock_time(connection)
        schedule = await entries.read(connection, file=settings.running.schedule, now=now)
        return {
            "now": now,
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


ROUTES: list[BaseRoute] = [Route("/", overview)]
