"""`/actions`: what operators have done."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.web.rendering import render
from console.web.resources import resources_of
from pocketwatch.storage import operator_actions

PAGE_SIZE = 50


async def actions(request: Request) -> Response:
    parameters = request.query_params
    wanted = {name: parameters.get(name, "").strip() or None for name in ("actor", "action", "target")}
    before = parameters.get("before", "")
    async with resources_of(request).read() as connection:
        rows = await operator_actions.newest(
            connection, limit=PAGE_SIZE + 1, before_id=int(before) if before.isdecimal() else None, **wanted
        )
    following = rows[PAGE_SIZE - 1]["id"] if len(rows) > PAGE_SIZE else None
    return render(request, "web/actions.html", rows=rows[:PAGE_SIZE], wanted=wanted, following=following)


ROUTES: list[BaseRoute] = [Route("/actions", actions)]
