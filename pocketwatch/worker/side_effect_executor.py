"""Errands: messages whose effect lies outside; handled at the same time, and claimed together when they are done."""

from collections.abc import Awaitable, Callable
from typing import Any

from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.batch_executor import BatchExecutor
from pocketwatch.worker.batcher import Batcher
from pocketwatch.worker.context import EventContext, SideEffectContext
from pocketwatch.worker.executor import Outcome
from schemas.envelope import Envelope
from schemas.message import Message

Handler = Callable[[Any, SideEffectContext], Awaitable[None]]


class SideEffectExecutor:
    """Runs one consumer's handler for many messages at the same time, and commits what they told in groups.

    Args:
        consumer: the name under which messages are claimed and logged; its queue's.
        resource: what each errand finds under this name.
    """

    def __init__(
        self, consumer: str, handler: Handler, database: Database, settings: Settings, *, resource: Any = None
    ) -> None:
        self.claims = BatchExecutor(consumer, _tell, database)
        self._handler, self._settings, self._resource = handler, settings, resource
        self._gathering = Batcher(database)

    async def handle(self, envelope: Envelope, message: Message) -> Outcome:
        """Return when the effect has happened and is claimed."""
        errand = SideEffectContext(
            envelope, gathering=self._gathering, settings=self._settings, resource=self._resource
        )
        await self._handler(message, errand)
        return await self.claims.handle(envelope, errand)

    async def run(self) -> None:
        """Commit group after group. Must outlive the consumer."""
        await self.claims.run()


async def _tell(context: SideEffectContext, event: EventContext) -> None:
    """What the errand told is told again, in the transaction that claims it."""
    event.rows += context.rows
    event.statistics |= context.statistics
    event.status, event.reason = context.status, context.reason
