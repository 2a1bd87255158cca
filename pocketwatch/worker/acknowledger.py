"""Acknowledges the deliveries of a channel together: what is committed together costs one frame, not one each.

A frame with `multiple` acknowledges every delivery up to its tag. It is used up to the last tag below which every
delivery is done with; those above are acknowledged one by one, in the same write.
"""

import asyncio
import contextvars

from aio_pika import IncomingMessage
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPError
from loguru import logger

LOST = (AMQPError, ConnectionError, RuntimeError)  # the broker delivers again


class Acknowledger:
    """Acknowledges, refuses or returns deliveries; each delivery of a channel must end here, in one of these ways."""

    def __init__(self) -> None:
        self._channels: dict[AbstractChannel, Deliveries] = {}

    def ack(self, message: IncomingMessage) -> None:
        """Acknowledge a delivery, with all others of this turn of the event loop."""
        deliveries = self._deliveries(message)
        if deliveries is not None and message.delivery_tag is not None:
            message.lock()  # as aio-pika does
            deliveries.ack(message.delivery_tag)

    async def reject(self, message: IncomingMessage, *, requeue: bool) -> None:
        """Refuse a delivery: it is dead-lettered by its queue, or returns to it."""
        deliveries = self._deliveries(message)
        if deliveries is None or message.delivery_tag is None:
            return
        try:
            await message.reject(requeue=requeue)
        except LOST as error:
            logger.bind(error=str(error)[:200]).debug("message.not_rejected")
            return
        deliveries.done(message.delivery_tag)

    def _deliveries(self, message: IncomingMessage) -> "Deliveries | None":
        try:
            channel = message.channel
        except LOST:  # it is closed
            return None
        if channel not in self._channels:
            self._channels = {each: known for each, known in self._channels.items() if not each.is_closed}
            self._channels[channel] = Deliveries(channel)
        return self._channels[channel]


class Deliveries:
    """Which deliveries of a channel are done with; their tags are 1, 2, 3 and so on."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._below = 0  # every delivery up to this tag is done with
        self.above: set[int] = set()  # those above it that are, too
        self._acked: list[int] = []  # and not sent yet
        self._sending: asyncio.Task[None] | None = None

    def ack(self, tag: int) -> None:
        self._acked.append(tag)
        if self._sending is None:
            # A context of its own, without the ids of the message that happened to be the first.
            self._sending = asyncio.create_task(self.send(), context=contextvars.Context())

    def done(self, tag: int) -> None:
        self.above.add(tag)
        while self._below + 1 in self.above:
            self._below += 1
            self.above.remove(self._below)

    async def send(self) -> None:
        """Send what is to be acknowledged."""
        try:
            while self._acked:
                acked, self._acked = self._acked, []
                for tag in acked:
                    self.done(tag)
                together = [tag for tag in acked if tag <= self._below]
                if together:
                    await self._channel.basic_ack(max(together), multiple=True, wait=False)
                for tag in acked:
                    if tag > self._below:
                        await self._channel.basic_ack(tag, wait=False)
        except LOST as error:
            logger.bind(error=str(error)[:200]).debug("message.not_acknowledged")
        finally:
            self._sending = None
