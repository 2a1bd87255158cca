"""Messages that wait for another attempt: moved from their delay queue to their queue before the delay is over."""

from collections.abc import Callable
from dataclasses import dataclass

from aio_pika.abc import AbstractIncomingMessage

from pocketwatch.broker.headers import to_copy
from pocketwatch.broker.held import take
from pocketwatch.broker.publisher import Publisher, copy_unchanged
from pocketwatch.broker.topology import DelayQueue


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message in a delay queue."""

    queue: str  # to which it returns
    message_id: str
    delay_queue: str


Wanted = Callable[[WaitingMessage], bool]


async def release(publisher: Publisher, delay: DelayQueue, wanted: Wanted) -> list[WaitingMessage]:
    """Move these to the end of their queues now; the others stay in order, with the time that is left to them.

    Each is acknowledged only when the broker has confirmed it there; it cannot leave the delay queue meanwhile.

    Raises:
        PublishFailed: when the broker does not confirm; the message continues waiting.
    """

    def choose(message: AbstractIncomingMessage) -> WaitingMessage | None:
        found = WaitingMessage(message.routing_key or "", message.message_id or "", delay.name)
        return found if wanted(found) else None

    async def move(message: AbstractIncomingMessage, found: WaitingMessage) -> None:
        copy = copy_unchanged(message, to_copy(message.headers, {}))
        await publisher.publish(copy, exchange="", routing_key=found.queue)

    return await take(publisher.connection, delay.name, choose, move)
