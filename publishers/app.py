"""The publishers' service: the ticker, the fire ledger, the relay and the periodic route check."""

from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Literal

from loguru import logger

from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.service import Service
from pocketwatch.storage import privileges
from publishers import route_check
from publishers.fire_ledger import FireLedger
from publishers.relay import Relay
from publishers.schedule_file import ScheduleFile
from publishers.ticker import Ticker

PUBLISHING = "publishers.started"
MAX_IDLE = timedelta(seconds=20)  # of a transaction: the relay waits for a confirm in it, for five seconds at most


class PublisherApp(Service):
    """Publishes the ticks of the schedule and the messages of the outbox."""

    kind: ClassVar[Literal["publish"]] = "publish"
    shows_suite: ClassVar[bool] = True
    _file: ScheduleFile | None = None

    def facts(self) -> dict[str, Any]:
        """Return the schedule that it runs, by column of `processes`; nothing before it has started."""
        return {} if self._file is None else self._file.facts()

    async def _start(self) -> None:
        file = self._file = ScheduleFile(self._settings.running.schedule)
        database = await self._open_database("pocketwatch publish", privileges.PUBLISHERS, max_idle=MAX_IDLE)
        publisher = await self._open_publisher("ticks", TOPOLOGY)
        relay = Relay(database, publisher)
        # The first to start is the last to end: the relay still sends what the ticker has recorded.
        self._run_in_background("relay", relay.run, drain=relay.finish)
        self._run_in_background("relay ahead", relay.run_ahead, drain=relay.finish)
        ticker = Ticker(database, file.schedule)
        self._run_in_background("ticker", ticker.run)
        self._run_in_background("schedule file", partial(file.watch, ticker.use))
        self._run_in_background("fire ledger", FireLedger(database, file).run)
        self._run_in_background("route check", partial(route_check.watch, publisher.connection, file))
        disabled = [entry.name for entry in file.schedule.disabled]
        logger.bind(entries=len(file.schedule.enabled), disabled=disabled).info(PUBLISHING)
