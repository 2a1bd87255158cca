"""The HTTP port of a process: its metrics and its health.

`/metrics`        what `metrics` returns, for Prometheus
`/health/live`    200 while the event loop answers
`/health/ready`   200 while the process does its work, else 503 with the reason

There is no login: what it shows are figures, and it changes nothing. It listens on the loopback interface unless the
setting names another. The web server is imported only here, where a port is set.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from loguru import logger

from pocketwatch.errors import SettingsError
from pocketwatch.settings import Address

if TYPE_CHECKING:
    from starlette.applications import Starlette

LISTENING = "http.listening"
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus's text format
MAX_CONNECTIONS = 100
BACKLOG = 128
CLOSE_TIMEOUT = 1  # seconds for requests in progress, at the end

Problem = Callable[[], Awaitable[str | None]]


@asynccontextmanager
async def listening(
    address: Address,
    *,
    problem: Problem,
    metrics: Callable[[], Awaitable[bytes]],
    documents: Mapping[str, Callable[[], Any]] | None = None,
) -> AsyncIterator[Address]:
    """Answer requests until the end; yield the address, with its real port where that of the setting is 0.

    Args:
        problem: returns why the process does not do its work; None when it does.
        metrics: returns Prometheus's text format.
        documents: returns a JSON document, by its path.

    Raises:
        SettingsError: when the address cannot be used, for instance because another program has the port.
    """
    from uvicorn import Config, Server  # noqa: PLC0415

    opened = _bind(address)
    config = Config(
        _app(problem, metrics, documents or {}),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=CLOSE_TIMEOUT,
    )
    config.load()
    server = Server(config)
    server.lifespan = config.lifespan_class(config)
    # Not `serve`, which would take SIGTERM from the process and poll ten times a second.
    await server.startup(sockets=[opened])
    try:
        bound = Address(*opened.getsockname()[:2])
        logger.bind(address=str(bound)).info(LISTENING)
        yield bound
    finally:
        await server.shutdown(sockets=[opened])


def _bind(address: Address) -> socket.socket:
    try:
        family, _, _, _, target = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(target[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0  # that of a name which is not found is negative
        reason = os.strerror(number) if number > 0 else str(error)
        raise SettingsError(
            f'POCKETWATCH_HTTP is "{address}", where the process cannot listen: {reason}; '
            "use another port for each process of a machine"
        ) from error


def _app(
    problem: Problem, metrics: Callable[[], Awaitable[bytes]], documents: Mapping[str, Callable[[], Any]]
) -> "Starlette":
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import JSONResponse, Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    async def show_metrics(_: Request) -> Response:
        return Response(await metrics(), headers={"content-type": METRICS_TYPE})

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        reason = await problem()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    def document(load: Callable[[], Any]) -> Any:
        async def show(_: Request) -> Response:
            return JSONResponse(await asyncio.to_thread(load))

        return show

    return Starlette(
        routes=[
            Route("/metrics", show_metrics),
            Route("/health/live", live),
            Route("/health/ready", ready),
            *(Route(path, document(load)) for path, load in documents.items()),
        ]
    )
