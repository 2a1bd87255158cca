"""For FastStream's command line, `faststream run` and `faststream docs`: the consumers as one of its applications."""

from collections.abc import Callable, Sequence
from typing import Any

from faststream import FastStream
from faststream.rabbit import RabbitBroker
from faststream.specification import AsyncAPI

from pocketwatch.command import failure_logged, read_settings
from pocketwatch.identity import version
from pocketwatch.service import Service, serve
from pocketwatch.settings import Settings
from pocketwatch.worker.connections import subscribe
from pocketwatch.worker.consumer import Consumer
from pocketwatch.worker.executors import Outcome
from schemas.envelope import Envelope
from schemas.message import Message


class FastStreamApp(FastStream):
    """Documents the consumers by a broker that never connects, and runs them as `pocketwatch consume` does.

    Args:
        services: makes what runs; each group has a connection of its own there.
    """

    def __init__(self, consumers: Sequence[Consumer], services: Callable[[Settings], Sequence[Service]]) -> None:
        broker = RabbitBroker(apply_types=False)
        for each in consumers:
            subscribe(broker, each, Documented())
        document = AsyncAPI(title="Pocketwatch", version=version(), schema_version="3.0.0")
        super().__init__(broker, specification=document)
        self._services = services

    async def run(self, log_level: int = 0, run_extra_options: Any = None, sleep_time: float = 0.0) -> None:  # noqa: ARG002
        """Run until SIGTERM or SIGINT, with the settings of the environment."""
        with failure_logged():
            settings = read_settings(quiet=False)
            await serve(self._services(settings), settings)


class Documented:
    """In place of an executor, of a consumer that is only documented."""

    async def handle(self, envelope: Envelope, message: Message) -> Outcome:
        raise RuntimeError(f"{envelope.routing_key}: this broker only documents consumers; it got {message}")
