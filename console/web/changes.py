"""Server-sent events: the names of what has changed, so that open pages refresh those parts."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import StreamingResponse

from pocketwatch.errors import PocketwatchError
from pocketwatch.storage.database import Database, is_outage

INTERVAL = 2.0  # seconds between two looks
KEEPALIVE = 15.0  # seconds without a change, after which a comment keeps the connection open
QUEUES, QUEUES_EVERY = "queues", 3  # looks: the broker announces nothing
# Event: the tables whose changes it announces.
TABLES: Mapping[str, tuple[str, ...]] = {
    "runs": ("update_logs",),
    "fires": ("fires", "schedule_entries"),
    "pauses": ("schedule_pauses",),
    "incidents": ("incidents",),
    "processes": ("processes",),
    "emails": ("moderation_notification_logs", "mail_suppressions"),
    "moderation": ("moderation_decisions",),
    "rates": ("currency_rates",),
    "analytics": ("analytics_snapshots", "daily_activity"),
    "actions": ("operator_actions",),
    "outbox": ("outbox",),
}
# The server counts the rows that were written, so that the size of a table does not matter.
WRITTEN = sa.text(
    "SELECT relname, n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE schemaname = current_schema()"
)


class Changes:
    """Looks for changes while a page listens; one look serves all who do."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listeners: set[asyncio.Queue[str | None]] = set()
        self._has_listeners = asyncio.Event()
        self._is_closed = False

    async def watch(self) -> None:
        """Announce changes, until cancelled."""
        looks = 0
        before: dict[str, int] = {}
        while True:
            await self._has_listeners.wait()
            now = await self._written()
            looks += 1
            for event, tables in TABLES.items():
                if before and any(before.get(table) != now.get(table) for table in tables):
                    self._announce(event)
            if looks % QUEUES_EVERY == 0:
                self._announce(QUEUES)
            before = now or before
            await asyncio.sleep(INTERVAL)

    async def _written(self) -> dict[str, int]:
        try:
            async with self._database.begin() as connection:
                return {table: int(count) for table, count in await connection.execute(WRITTEN)}
        except Exception as error:
            if isinstance(error, PocketwatchError) or is_outage(error):
                return {}  # pages say so themselves
            raise

    def _announce(self, event: str | None) -> None:
        for listener in self._listeners:
            listener.put_nowait(event)

    def close(self) -> None:
        """End all streams, so that the server can stop."""
        self._is_closed = True
        self._announce(None)

    async def events(self) -> AsyncIterator[str]:
        """Yield the stream of one page, beginning with a comment that opens it."""
        listener: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners.add(listener)
        self._has_listeners.set()
        try:
            yield ": open\n\n"
            while not self._is_closed:
                try:
                    event = await asyncio.wait_for(listener.get(), KEEPALIVE)
                except TimeoutError:
                    yield ": still open\n\n"
                    continue
                if event is not None:
                    yield f"event: {event}\ndata: changed\n\n"
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._has_listeners.clear()


async def stream(request: Request) -> StreamingResponse:
    events = request.app.state.resources.changes.events()
    return StreamingResponse(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
