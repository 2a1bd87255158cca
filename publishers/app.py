"""The publishers' service: the ticker, the relay and the periodic route check."""

from functools import partial

from loguru import logger

from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.service import Service
from pocketwatch.storage import privileges
from publishers import route_check
from publishers.relay import Relay
from publishers.schedule import load
from publishers.ticker import Ticker

PUBLISHING = "publishers.started"


class PublisherApp(Service):
    """Publishes the ticks of the schedule and the messages of the outbox."""

    shows_suite = True

    async def _start(self) -> None:
        schedule = load(self._settings.running.schedule)
        database = await self._open_database("pocketwatch publish", privileges.PUBLISHERS)
        publisher = await self._open_publisher("ticks", TOPOLOGY)
        relay = Relay(database, publisher)
        # The first to start is the last to end: the relay still sends what the ticker has recorded.
        self._run_in_background("relay", relay.run, drain=relay.finish)
        self._run_in_background("ticker", Ticker(database, schedule).run)
        self._run_in_background("route check", partial(route_check.watch, publisher.connection, schedule))
        disabled = [entry.name for entry in schedule.disabled]
        logger.bind(entries=len(schedule.enabled), disabled=disabled).info(PUBLISHING)
