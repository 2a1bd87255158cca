"""Dead letters: look at them, requeue them as they are or edited, drop them."""

import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from console.operations import bodies
from console.operations.operator import Operator
from pocketwatch.broker import dead_letters
from pocketwatch.broker.dead_letters import DeadLetter, Look, Progress
from pocketwatch.broker.declare import queues_info
from pocketwatch.broker.held import MAX_HELD
from pocketwatch.broker.pace import UNLIMITED, Pace
from pocketwatch.broker.publisher import Publisher, copy_message
from pocketwatch.broker.topology import Queue, with_celery
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from schemas import envelope as metadata

BUSY = 0.2  # seconds after which a broker gives up on counting a queue, and says that it is empty
COUNTS = 3  # of the queues of a busy broker
MAX_NAMED = 5  # ids in an error
MAX_RECORDED = 100  # ids in the record of an action
LONGEST_RECORDED = 10_000  # characters of a body in the record of an action
COMPRESSION = "compression"  # Celery's header: an edited body is not compressed

Read = Callable[[Publisher, "Selection"], Awaitable[list[Look]]]
Headers = Mapping[str, Any]  # to set; None removes one


@dataclass(frozen=True)
class Selection:
    """Which dead letters.

    Args:
        ids: message ids, or beginnings of them that are those of one message only; None for all.
        reason: a part of the error or its type, in any case.
    """

    queues: tuple[Queue, ...]
    ids: tuple[str, ...] | None = None
    reason: str | None = None

    def includes(self, found: DeadLetter) -> bool:
        if self.reason is not None and not found.has_reason(self.reason):
            return False
        return self.ids is None or any(found.message_id.startswith(each) for each in self.ids)


@dataclass(frozen=True)
class Changed:
    """What was requeued or dropped, and which of the ids do not exist."""

    dead_letters: list[DeadLetter]
    missing: tuple[str, ...] = ()
    skipped: int = 0  # dead letters that were not looked at, because there are more than are held at a time


def queues_named(settings: Settings, name: str | None = None) -> tuple[Queue, ...]:
    """Return the queue of this name, or all.

    Raises:
        PocketwatchError: when it does not exist.
    """
    topology = with_celery(settings.bridge.celery_queue)
    if name is None:
        return topology.queues
    if (queue := topology.queue(name.removesuffix(".dead"))) is None:
        known = ", ".join(queue.name for queue in topology.queues)
        raise PocketwatchError(f'queue "{name}" does not exist; known: {known}')
    return (queue,)


async def look(publisher: Publisher, selection: Selection, *, limit: int = MAX_HELD) -> list[Look]:
    """Look at the dead letters of each queue that has some; `limit` of each are returned, oldest first."""
    looks = [
        await dead_letters.look(publisher, queue, limit=limit, wanted=selection.includes)
        for queue in await _with_messages(publisher, selection.queues)
    ]
    return [each for each in looks if each.groups or each.skipped]


async def _with_messages(publisher: Publisher, queues: Sequence[Queue]) -> list[Queue]:
    """Return the queues that have dead letters; a busy broker says of some that they have none, after a while."""
    found: list[Queue] = []
    left = list(queues)
    for _ in range(COUNTS):
        began = time.monotonic()
        counts = await queues_info(publisher.connection, [queue.dead_letter_queue for queue in left])
        found += [queue for queue in left if counts[queue.dead_letter_queue] not in {None, (0, 0)}]
        left = [queue for queue in left if counts[queue.dead_letter_queue] == (0, 0)]
        if time.monotonic() - began < BUSY:
            break
    return [queue for queue in queues if queue in found]


async def find(
    publisher: Publisher, message_id: str, queues: Sequence[Queue], *, read: Read = look
) -> list[DeadLetter]:
    """Return the dead letters of a message: usually one, or one of each queue that it has reached.

    Args:
        message_id: its id, or a beginning of it.
        read: how dead letters are looked at.

    Raises:
        PocketwatchError: when there is none, or the beginning is that of several.
    """
    selection = Selection(tuple(queues), (message_id,))
    looks = await read(publisher, selection)
    found = [each for look_ in looks for each in look_.oldest]
    if not found:
        raise PocketwatchError(f'dead letter "{message_id}" does not exist; see: pocketwatch dead list')
    whole = _complete((message_id,), {each.message_id for each in found})
    return [each for each in found if each.message_id in whole]


async def requeue(
    publisher: Publisher,
    database: Database,
    selection: Selection,
    *,
    operator: Operator,
    pace: Pace = UNLIMITED,
    on_moved: Progress = lambda _: None,
) -> Changed:
    """Return dead letters to their queues, with their ids and new attempts.

    Raises:
        PocketwatchError: when the beginning of an id matches several; nothing is changed.
        PublishFailed: when the broker does not confirm one; it stays a dead letter.
    """
    chosen, missing, skipped = await _resolve(publisher, selection)
    done: list[DeadLetter] = []
    for queue in chosen.queues:
        moved: list[DeadLetter] = []

        def count(each: DeadLetter, moved: list[DeadLetter] = moved) -> None:
            moved.append(each)
            on_moved(each)

        try:
            await dead_letters.requeue(publisher, queue, chosen.includes, pace=pace, on_moved=count)
        finally:
            await _record(database, operator, "dead.requeue", queue, moved)
        done += moved
    return Changed(done, missing, skipped)


async def drop(publisher: Publisher, database: Database, selection: Selection, *, operator: Operator) -> Changed:
    """Delete dead letters permanently.

    Raises:
        PocketwatchError: when the beginning of an id matches several; nothing is changed.
    """
    chosen, missing, skipped = await _resolve(publisher, selection)
    done: list[DeadLetter] = []
    for queue in chosen.queues:
        dropped = await dead_letters.drop(publisher, queue, chosen.includes)
        await _record(database, operator, "dead.drop", queue, dropped)
        done += dropped
    return Changed(done, missing, skipped)


async def edit(
    publisher: Publisher,
    database: Database,
    dead_letter: DeadLetter,
    settings: Settings,
    *,
    operator: Operator,
    body: bytes | None = None,
    headers: Headers | None = None,
) -> DeadLetter:
    """Requeue one with another body or other headers, under its id, entry and correlation id.

    Args:
        dead_letter: as it was found; it must not have been changed by others meanwhile.
        body: None keeps it.
        headers: those that replace its own, such as `{"x-due-at": None}`, which removes it.

    Raises:
        InvalidBody: when its consumer would refuse it, field by field; nothing is changed.
        PocketwatchError: when it is not there any more.
    """
    (queue,) = queues_named(settings, dead_letter.queue)
    consumer = bodies.consumer_of(queue.name, settings)
    changed = dict(headers or {})

    def change(message: AbstractIncomingMessage, found: DeadLetter) -> aio_pika.Message:
        edited = _edited(message, found, body, changed)
        draft = bodies.Draft(
            edited.body,
            edited.headers,
            edited.message_id,
            edited.correlation_id,
            found.headers.get(metadata.ORIGIN_EXCHANGE, ""),
            found.routing_key,
            edited.content_type or "",
            edited.content_encoding or "utf-8",
        )
        bodies.check(consumer, draft, settings)
        return edited

    def is_it(found: DeadLetter) -> bool:
        return _identity(found) == _identity(dead_letter)

    moved = await dead_letters.requeue(publisher, queue, is_it, change=change)
    if not moved:
        raise PocketwatchError(
            f'dead letter "{dead_letter.message_id}" was requeued or dropped meanwhile; see: pocketwatch dead list'
        )
    text = None if body is None else body.decode(errors="replace")[:LONGEST_RECORDED]
    async with database.begin() as connection:
        await operator.record(
            connection,
            "dead.edit",
            dead_letter.message_id,
            before=_described(dead_letter),
            after={"queue": queue.name, "headers": changed} | ({} if text is None else {"body": text}),
        )
    return moved[0]


def editable_body(dead_letter: DeadLetter) -> str:
    """Return the body for an editor: JSON is indented.

    Raises:
        PocketwatchError: when it is no text, or is shown in part only.
    """
    if COMPRESSION in dead_letter.headers or "\ufffd" in dead_letter.body:
        raise PocketwatchError(
            f'the body of "{dead_letter.message_id}" is compressed or not text; give another one: '
            "pocketwatch dead requeue ID --body @file"
        )
    if len(dead_letter.body.encode()) >= dead_letters.LONGEST_BODY:
        raise PocketwatchError(
            f'the body of "{dead_letter.message_id}" is larger than {dead_letters.LONGEST_BODY} bytes; give another '
            "one: pocketwatch dead requeue ID --body @file"
        )
    try:
        return json.dumps(json.loads(dead_letter.body), ensure_ascii=False, indent=2) + "\n"
    except (ValueError, RecursionError):
        return dead_letter.body


def _edited(
    message: AbstractIncomingMessage, found: DeadLetter, body: bytes | None, headers: Headers
) -> aio_pika.Message:
    removed = tuple(name for name, value in headers.items() if value is None)
    ours = dead_letters.requeued_headers(message, found) | {
        name: value for name, value in headers.items() if value is not None
    }
    without = (*dead_letters.FAILURE_HEADERS, *removed, *(() if body is None else (COMPRESSION,)))
    edited = copy_message(message, ours=ours, without=without)
    if body is not None:
        edited.body = body
        edited.body_size = len(body)
        edited.content_type, edited.content_encoding = "application/json", "utf-8"
    return edited


async def _resolve(publisher: Publisher, selection: Selection) -> tuple[Selection, tuple[str, ...], int]:
    """Look first: complete the beginnings of ids, and leave out queues without any of them."""
    looks = await look(publisher, selection, limit=MAX_HELD if selection.ids else 1)
    names = {each.queue for each in looks}
    queues = tuple(queue for queue in selection.queues if queue.name in names)
    skipped = sum(each.skipped for each in looks)
    if selection.ids is None:
        return replace(selection, queues=queues), (), skipped
    found = {each.message_id for look_ in looks for each in look_.oldest}
    whole = _complete(selection.ids, found)
    missing = tuple(each for each in selection.ids if not any(name.startswith(each) for name in found))
    return _Exact(queues, tuple(sorted(whole)), selection.reason), missing, skipped


@dataclass(frozen=True)
class _Exact(Selection):
    """Whole ids, which may be the beginnings of others."""

    def includes(self, found: DeadLetter) -> bool:
        return found.message_id in (self.ids or ()) and (self.reason is None or found.has_reason(self.reason))


def _complete(beginnings: Sequence[str], ids: Collection[str]) -> set[str]:
    """Return the ids that begin like these, each at most one; an id that is given whole is itself."""
    whole: set[str] = set()
    for each in beginnings:
        matching = {each} if each in ids else {name for name in ids if name.startswith(each)}
        if len(matching) > 1:
            named = ", ".join(sorted(matching)[:MAX_NAMED])
            more = f" and {len(matching) - MAX_NAMED} more" if len(matching) > MAX_NAMED else ""
            raise PocketwatchError(f'id "{each}" matches several messages: {named}{more}; give more characters')
        whole |= matching
    return whole


def _identity(found: DeadLetter) -> tuple[object, ...]:
    return found.message_id, found.requeued, found.last_failed_at, found.attempt


async def _record(
    database: Database, operator: Operator, action: str, queue: Queue, done: Sequence[DeadLetter]
) -> None:
    if not done:
        return
    if len(done) == 1:
        target, before = done[0].message_id or queue.name, _described(done[0])
        after: dict[str, Any] = {"queue": queue.name}
    else:
        target, before = queue.name, None
        ids = [each.message_id for each in done[:MAX_RECORDED]]
        after = {"queue": queue.name, "count": len(done), "message_ids": ids}
    async with database.begin() as connection:
        await operator.record(connection, action, target, before=before, after=after)


def _described(found: DeadLetter) -> dict[str, Any]:
    return {
        "queue": found.queue,
        "error": f"{found.error_type}: {found.error}",
        "requeued": found.requeued,
        "body": found.body[:LONGEST_RECORDED],
    }
