"""`/`: what is wrong, what happens, and what comes next."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.web.rendering import render


async def overview(request: Request) -> Response:
    return render(request, "web/overview.html")


ROUTES: list[BaseRoute] = [Route("/", overview)]
