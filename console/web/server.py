"""The console's service: a web server in the process, started and stopped as the other services."""

import errno
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from aio_pika.abc import AbstractRobustConnection
from loguru import logger

from console.web.access import is_loopback
from console.web.app import create_app
from console.web.resources import Resources
from pocketwatch.broker.connection import vhost_of
from pocketwatch.broker.management import ManagementApi
from pocketwatch.errors import PocketwatchError, SettingsError
from pocketwatch.service import Service
from pocketwatch.settings import Settings, Web
from pocketwatch.storage import privileges

STARTED = "web.started"
CLOSING_TIMEOUT = 3  # seconds for answers in flight when the process stops
BACKLOG = 128  # connections


class WebApp(Service):
    """Serves the console from `async with` until its end; `url` is its address."""

    kind = "web"
    shows_suite = True

    def __init__(self, settings: Settings, *, host: str = "127.0.0.1", port: int = 8080) -> None:
        super().__init__(settings)
        self._host, self._port = host, port
        self.url = ""
        self._resources: Resources | None = None

    @property
    def problem(self) -> str | None:
        """Why it does not do its work now; without the broker, pages show what they can."""
        ended = [task.get_name() for task in self.background if task.done()]
        return f"the background task {ended[0]} has ended" if ended else None

    @property
    def publishing_connection(self) -> AbstractRobustConnection | None:
        return None if self._resources is None else self._resources.connection

    def facts(self) -> Mapping[str, Any]:
        return {"http": self.url.partition("://")[2]}

    async def _start(self) -> None:
        _check_access(self._settings.web, self._host)
        listening = self._listen()
        self._stack.callback(listening.close)
        needs = [privileges.WEB, *([privileges.STAFF] if "staff" in self._settings.web.sign_in else [])]
        database = await self._open_database("pocketwatch web", privileges.merge(needs))
        resources = self._resources = Resources(self._settings, database, await self._open_management())
        self._run_in_background("broker connection", resources.keep_broker_connected)
        self._run_in_background("changes", resources.changes.watch)
        server = _Server(create_app(self._settings, resources))

        def finish() -> None:
            server.should_exit = True
            resources.changes.close()

        self._run_in_background("web server", lambda: server.serve([listening]), drain=finish)
        logger.bind(url=self.url).info(STARTED)

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            opened = socket.create_server((self._host.strip("[]"), self._port), family=family, backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            reason = "is taken by another process" if getattr(error, "errno", 0) == errno.EADDRINUSE else str(error)
            raise PocketwatchError(
                f"port {self._port} of {self._host} {reason}; choose another, such as --port {self._port + 1}, or 0"
                " for any free port"
            ) from error
        host = f"[{self._host}]" if family == socket.AF_INET6 else self._host
        self.url = f"http://{host}:{opened.getsockname()[1]}"
        return opened

    async def _open_management(self) -> ManagementApi | None:
        url = self._settings.servers.rabbitmq_management_url
        if url is None:
            return None
        vhost = vhost_of(self._settings.rabbitmq_urls[0])
        return await self._stack.enter_async_context(ManagementApi(url, vhost))


def _check_access(web: Web, host: str) -> None:
    """Check that every user who reaches the console is known.

    Raises:
        SettingsError: when they would not be.
    """
    if not web.sign_in and not is_loopback(host):
        raise SettingsError(
            f"--host {host} is reachable from other machines, and POCKETWATCH_WEB_SIGN_IN is not set; set it to users, "
            "staff or proxy, or listen on 127.0.0.1"
        )
    if web.sign_in and web.secret_key is None:
        raise SettingsError(
            "POCKETWATCH_WEB_SECRET_KEY is not set, but POCKETWATCH_WEB_SIGN_IN needs it to sign sessions; set it to "
            "32 characters or more, for instance from: openssl rand -hex 32"
        )
    if "proxy" in web.sign_in and not web.trusted_proxies:
        raise SettingsError(
            "POCKETWATCH_WEB_TRUSTED_PROXIES is not set, but POCKETWATCH_WEB_SIGN_IN=proxy needs it; set it "
            "to the proxy's address, such as 10.0.0.2"
        )


class _Server(uvicorn.Server):
    """Leaves signals to the process, and logs no request."""

    def __init__(self, app: object) -> None:
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            access_log=False,
            log_config=None,
            log_level="warning",
            lifespan="off",
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=CLOSING_TIMEOUT,
        )
        super().__init__(config)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
