"""The contracts of the messages, for other programs."""

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from console.cli.processes import asyncapi


async def document(_: Request) -> Response:
    return JSONResponse(await asyncio.to_thread(asyncapi))


ROUTES: list[BaseRoute] = [Route("/asyncapi.json", document)]
