"""The contracts of the messages, for other programs."""

import asyncio
from functools import cache

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from console import contracts

_asyncapi = cache(contracts.asyncapi_document)


async def document(_: Request) -> Response:
    return JSONResponse(await asyncio.to_thread(_asyncapi))


ROUTES: list[BaseRoute] = [Route("/asyncapi.json", document)]
