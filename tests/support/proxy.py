"""A way to a server that can be frozen, cut and slowed down: a plain TCP proxy."""

import asyncio
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Forwards connections from a port of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._upward, self._downward = asyncio.Event(), asyncio.Event()  # from the client to the server, and back
        self._marker: bytes | None = None
        self.thaw()
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.delay = 0.0  # seconds that each piece of data takes

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.thaw()
        await self.cut()

    def through(self, url: str) -> str:
        """The URL of the server, by this way."""
        parts = urlsplit(url)
        return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self.port}").geturl()

    async def open(self) -> None:
        """Take connections, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Close every connection and take no new ones."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writers.clear()

    def freeze(self) -> None:
        """Forward nothing; connections stay open, as when a machine hangs."""
        self.hold_upward()
        self.hold_downward()

    @property
    def is_frozen(self) -> bool:
        return not self._upward.is_set() and not self._downward.is_set()

    def freeze_at(self, marker: bytes) -> None:
        """Freeze as soon as a client sends these bytes, such as the name of a queue."""
        self._marker = marker

    def hold_upward(self) -> None:
        """Forward nothing to the server, such as acknowledgements."""
        self._upward.clear()

    def hold_downward(self) -> None:
        """Forward nothing to the client, such as confirmations."""
        self._downward.clear()

    def thaw(self) -> None:
        """Forward again."""
        self._marker = None
        self._upward.set()
        self._downward.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        self._writers += [writer, server_writer]
        for source, sink, gate in ((reader, server_writer, self._upward), (server_reader, writer, self._downward)):
            task = asyncio.create_task(self._forward(source, sink, gate))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        try:
            while data := await source.read(65536):
                if self._marker is not None and self._marker in data:
                    self.freeze()
                await gate.wait()
                await asyncio.sleep(self.delay)
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
