"""Dead letters as operators handle them: looked at in turn, edited, requeued, dropped; nothing is lost or reordered."""

import asyncio
import json
from typing import Any

import aio_pika
import aiormq.exceptions
import pytest

from console.operations import dead_letters as operations
from console.operations.bodies import InvalidBody
from console.operations.dead_letters import Selection
from console.operations.operator import Operator
from console.web.dead_letters import LookCache
from pocketwatch.broker import dead_letters, held
from pocketwatch.broker.declare import declare, queue_info
from pocketwatch.broker.pace import Pace
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY, with_celery
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import operator_actions
from pocketwatch.storage.database import Database
from tests.fixtures.command import Command
from tests.fixtures.failures import Die
from tests.support.proxy import Proxy
from tests.support.queues import in_queue
from tests.support.waiting import eventually

NAME = "cleanup.tokens"
QUEUE = TOPOLOGY.queue(NAME)
OLENA = Operator("olena", "cli")
assert QUEUE is not None


async def ids(publisher: Publisher, **options: Any) -> list[str]:
    return [each.message_id for each in await dead_letters.fetch(publisher, QUEUE, **options)]


def selected(*ids: str, **options: Any) -> Selection:
    return Selection((QUEUE,), ids or None, **options)


async def test_looks_at_some_show_the_oldest_and_keep_the_order(publisher: Publisher, die: Die):
    for number, failed in enumerate(("15:02:48", "15:02:29", "15:05:00", "15:01:00")):
        await die(f"m{number}", x_first_failed_at=f"2026-11-28T{failed}+00:00")
    before = [each.message_id for each in await in_queue(publisher, QUEUE.dead_letter_queue)]

    looks = [await ids(publisher, limit=1) for _ in range(5)]

    assert looks == [["m3"]] * 5
    assert await ids(publisher) == ["m3", "m1", "m0", "m2"]
    after = [each.message_id for each in await in_queue(publisher, QUEUE.dead_letter_queue)]
    assert after == before == ["m0", "m1", "m2", "m3"]


async def test_page_is_read_again_when_the_number_changes_or_an_operator_has_acted(publisher: Publisher, die: Die):
    pages, seen = LookCache(), []

    async def look() -> list[str]:
        looks = await pages.look(publisher, selected(), limit=5)
        seen.append(looks)
        return [each.message_id for look in looks for each in look.oldest]

    async def shows(*wanted: str) -> bool:  # the broker's number may come a moment late
        return await look() == list(wanted)

    async def is_kept() -> bool:
        return await look() == ["m0"] and seen[-1] is seen[-2]

    assert await look() == []
    await die("m0")
    await eventually(lambda: shows("m0"))
    await eventually(is_kept)
    pages.forget()
    assert await look() == ["m0"]
    assert seen[-1] is not seen[-2]
    await die("m1")
    await eventually(lambda: shows("m0", "m1"))


async def test_two_who_look_at_once_both_see_all(publisher: Publisher, die: Die):
    for number in range(20):
        await die(f"m{number}")

    looks = await asyncio.gather(*(ids(publisher) for _ in range(3)))

    assert [len(look) for look in looks] == [20, 20, 20]


async def test_order_is_kept_when_there_are_more_than_are_looked_at(
    publisher: Publisher, die: Die, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(held, "MAX_HELD", 3)
    monkeypatch.setattr(dead_letters, "MAX_HELD", 3)
    for number in range(5):
        await die(f"m{number}")

    looks = [await dead_letters.look(publisher, QUEUE) for _ in range(3)]

    assert [[each.message_id for each in look.oldest] for look in looks] == [["m0", "m1", "m2"]] * 3
    assert [(look.total, look.skipped) for look in looks] == [(5, 2)] * 3


async def test_dead_letters_are_grouped_by_reason(publisher: Publisher, die: Die):
    await die("a", x_error="ad 7 has no owner", x_error_type="Reject", x_requeued=3)
    await die("b", x_error="ad 1234 has no owner", x_error_type="Reject")
    await die("c")

    (look,) = await operations.look(publisher, selected())

    groups = sorted((each.reason, each.count, each.looping) for each in look.groups.values())
    assert groups == [("ad 7 has no owner", 2, 1), ("unknown field", 1, 0)]
    (only,) = await operations.look(publisher, selected(reason="NO OWNER"))
    assert [each.message_id for each in only.oldest] == ["a", "b"]


async def test_beginning_of_an_id_is_enough_unless_it_is_that_of_several(publisher: Publisher, die: Die):
    for name in ("nightly-1", "nightly-12", "other"):
        await die(name)

    assert [each.message_id for each in await operations.find(publisher, "oth", [QUEUE])] == ["other"]
    assert [each.message_id for each in await operations.find(publisher, "nightly-1", [QUEUE])] == ["nightly-1"]
    with pytest.raises(PocketwatchError, match='id "night" matches several messages: nightly-1, nightly-12'):
        await operations.find(publisher, "night", [QUEUE])


async def test_ids_that_do_not_exist_are_named_and_the_others_are_requeued(
    publisher: Publisher, database: Database, die: Die
):
    await die("by-hand-1")
    await die("by-hand-10")

    done = await operations.requeue(publisher, database, selected("by-hand-1", "nope"), operator=OLENA)

    assert [each.message_id for each in done.dead_letters] == ["by-hand-1"]
    assert done.missing == ("nope",)
    assert await ids(publisher) == ["by-hand-10"]
    async with database.begin() as connection:
        (action,) = await operator_actions.newest(connection, limit=5)
    assert (action["actor"], action["action"], action["target"]) == ("olena", "dead.requeue", "by-hand-1")
    assert action["before"]["body"] == '{"retention_day": 7}'


async def test_edited_dead_letter_keeps_its_id_entry_and_correlation(
    publisher: Publisher, database: Database, settings: Settings, die: Die
):
    await die("by-hand-6", x_attempt=2)
    (found,) = await operations.find(publisher, "by-hand-6", [QUEUE])

    with pytest.raises(InvalidBody) as refused:
        await operations.edit(
            publisher, database, found, settings, operator=OLENA, body=b'{"retention_days": "soon", "dry": 1}'
        )
    assert set(refused.value.fields) == {"retention_days", "dry"}
    assert await ids(publisher) == ["by-hand-6"]
    await operations.edit(publisher, database, found, settings, operator=OLENA, body=b'{"retention_days": 7}')

    (message,) = await in_queue(publisher, NAME)
    assert message.body == b'{"retention_days": 7}'
    assert (message.message_id, message.correlation_id) == ("by-hand-6", "by-hand-6-chain")
    kept = {name: message.headers.get(name) for name in ("x-entry", "x-requeued", "x-attempt", "x-attempts-before")}
    assert kept == {"x-entry": "nightly", "x-requeued": 1, "x-attempt": 1, "x-attempts-before": 2}
    assert "x-error" not in message.headers
    async with database.begin() as connection:
        (action,) = await operator_actions.newest(connection, limit=5)
    assert (action["action"], action["before"]["body"], action["after"]["body"]) == (
        "dead.edit",
        '{"retention_day": 7}',
        '{"retention_days": 7}',
    )


async def test_dead_letter_with_a_bad_header_is_repaired_under_its_id(
    publisher: Publisher, database: Database, settings: Settings, die: Die
):
    await die("by-hand-7", body=b"{}", x_due_at="soon")
    (found,) = await operations.find(publisher, "by-hand-7", [QUEUE])

    with pytest.raises(InvalidBody, match="x-due-at is 'soon': must be a time with a time zone"):
        await operations.edit(publisher, database, found, settings, operator=OLENA)
    await operations.edit(publisher, database, found, settings, operator=OLENA, headers={"x-due-at": None})

    (message,) = await in_queue(publisher, NAME)
    assert message.message_id == "by-hand-7"
    assert "x-due-at" not in message.headers


async def test_edited_task_of_celery_is_checked_as_the_bridge_reads_it(
    publisher: Publisher, database: Database, settings: Settings, die: Die
):
    await declare(publisher.connection, with_celery("celery"))
    async with publisher.connection.channel() as channel:
        await channel.declare_queue("celery", durable=True)
    task = {"task": "send_moderation_email_task", "id": "t-1", "compression": "application/x-gzip"}
    await die("t-1", queue="celery", body=b"\x1f\x8b broken", **task)
    (queue,) = operations.queues_named(settings, "celery")
    (found,) = await operations.find(publisher, "t-1", [queue])

    with pytest.raises(PocketwatchError, match="is compressed or not text"):
        operations.editable_body(found)
    with pytest.raises(InvalidBody, match='task "send_moderation_email_task": '):
        await operations.edit(publisher, database, found, settings, operator=OLENA, body=b'{"ad_id": 1}')
    with pytest.raises(InvalidBody, match="its signature is"):
        await operations.edit(publisher, database, found, settings, operator=OLENA, body=b"[[], {}, {}]")
    with pytest.raises(InvalidBody, match="its signature is"):
        await operations.edit(publisher, database, found, settings, operator=OLENA, body=b'[[], {"nothing": 1}, {}]')

    async def is_back() -> bool:
        return await queue_info(publisher.connection, "celery.dead") == (1, 0)

    await eventually(is_back)


async def test_requeueing_keeps_to_its_rate_and_does_not_take_what_returns(
    publisher: Publisher, database: Database, die: Die
):
    for number in range(5):
        await die(f"m{number}")

    done = await operations.requeue(publisher, database, selected(), operator=OLENA, pace=Pace(100))

    assert [each.message_id for each in done.dead_letters] == [f"m{number}" for number in range(5)]
    assert await ids(publisher) == []
    assert len(await in_queue(publisher, NAME)) == 5


def test_rate_is_read_and_refused():
    assert Pace.parse("10/s").rate == 10
    for text in ("10", "0/s", "fast", "-1/s"):
        with pytest.raises(PocketwatchError, match="not a rate; use a whole number a second, such as 10/s"):
            Pace.parse(text)


async def test_commands_for_dead_letters(command: Command, publisher: Publisher, die: Die):
    """Foreign text is shown as it is, whatever a terminal or a markup language would make of it."""
    await die("[/b]odd2", body=b'{"x": "\\u001b[31m[red]"}', x_error="no \x1b]0;title\x07 [/b]", x_requeued=3)
    await die("by-hand-1")

    listed = await command("dead", "list")
    shown = await command("dead", "show", "[/b]o")
    partly = await command("dead", "requeue", "[/b]odd2", "nope")
    refused = await command("dead", "requeue", "by-h", "--body", '{"retention_days": -1}')
    edited = await command("dead", "edit", "by-h", EDITOR=r"sed -i s/retention_day\"/retention_days\"/")

    assert "\x1b" not in listed.output + shown.output + partly.output
    assert "[/b]odd2" in listed.output
    assert "requeued 3 times or more" in shown.output
    assert (partly.exit_code, "1 requeued" in partly.output) == (1, True)
    assert 'dead letter "nope" does not exist' in partly.output
    assert isinstance(refused.exception, InvalidBody)
    assert str(refused.exception) == "retention_days is -1: must be greater than or equal to 0"
    assert (edited.exit_code, edited.output) == (0, "1 requeued\n  cleanup.tokens  by-hand-1\n")
    (message,) = [each for each in await in_queue(publisher, NAME) if each.message_id == "by-hand-1"]
    assert json.loads(message.body) == {"retention_days": 7}


async def test_dropping_asks_with_how_many_of_which_queues(command: Command, publisher: Publisher, die: Die):
    for number in range(3):
        await die(f"m{number}")
    await die("v", queue="maintenance.vacuum")

    asked = await command("dead", "drop", "--all")
    dropped = await command("dead", "drop", "--reason", "UNKNOWN", "--queue", NAME, "--yes")

    assert "Delete 4 dead letters permanently (3 of cleanup.tokens, 1 of maintenance.vacuum)?" in asked.output
    assert asked.exit_code == 1
    assert "3 dropped" in dropped.output
    assert await queue_info(publisher.connection, "maintenance.vacuum.dead") == (1, 0)


async def test_lost_connection_leaves_every_dead_letter(
    publisher: Publisher, settings: Settings, die: Die, proxy: Proxy
):
    for number in range(3):
        await die(f"m{number}")

    async def cut(message: aio_pika.abc.AbstractIncomingMessage, _: str) -> None:
        await proxy.cut()
        await message.ack()

    with pytest.raises((PocketwatchError, aiormq.exceptions.AMQPError, OSError)):
        async with Publisher([proxy.through(settings.rabbitmq_urls[0])], role="cut") as through:
            await held.take(through.connection, QUEUE.dead_letter_queue, lambda message: message.message_id, cut)

    async def all_there() -> bool:
        return len(await ids(publisher)) == 3

    await eventually(all_there)
