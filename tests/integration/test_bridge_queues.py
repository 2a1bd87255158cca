"""The bridge consumes Celery's queue, whichever side declared it first."""

from collections.abc import Iterator

import aio_pika
import pytest

from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.publisher import Publisher
from tests.fixtures.celery import Platform
from tests.fixtures.suite import Consume, Program, Row, Runs, reason_of
from tests.support.vhosts import Vhosts
from tests.support.waiting import eventually

MEDIA = "clean_generated_media"
PRIORITIES = {"task_queue_max_priority": 10}


@pytest.fixture
def vhost(vhosts: Vhosts) -> Iterator[str]:
    """A vhost without any queue."""
    name = vhosts.take(declared=False)
    yield name
    vhosts.give_back(name)


@pytest.fixture(params=["celery", "platform.tasks"])
def queue(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def environment(environment: dict[str, str], queue: str) -> dict[str, str]:
    return environment | {"POCKETWATCH_CELERY_QUEUE": queue}


async def over(runs: Runs, task_id: str) -> Row:
    async def cleaned() -> Row | None:
        rows = [row for row in await runs.of(task_id) if row["job"] == "cleanup.media" and row["finished_at"]]
        return rows[-1] if rows else None

    return await eventually(cleaned)


@pytest.mark.parametrize("changes", [{}, PRIORITIES], ids=["default", "with priorities"])
async def test_queue_declared_by_celery_first_is_consumed(
    platform: Platform, consume: Consume, relay: None, runs: Runs, queue: str, changes: dict[str, int]
):
    conf = {"task_default_queue": queue, **changes}
    before = platform("delay", MEDIA, settings=conf)

    async with consume():
        assert (await over(runs, before))["status"] == "succeeded"
        after = platform("delay", MEDIA, settings=conf)
        assert (await over(runs, after))["trigger"] == "celery"


async def test_queue_declared_by_the_suite_first_is_accepted_by_celery(
    platform: Platform, consume: Consume, relay: None, runs: Runs, queue: str
):
    async with consume():
        task_id = platform("delay", MEDIA, settings={"task_default_queue": queue})

        row = await over(runs, task_id)

    assert (row["status"], row["trigger"]) == ("succeeded", "celery")


async def test_bridge_works_as_separate_processes(
    platform: Platform, pocketwatch: Program, publisher: Publisher, runs: Runs, queue: str
):
    assert pocketwatch("migrate").returncode == 0
    consumers, publishers = pocketwatch.start("consume", "bridge", "cleanup"), pocketwatch.start("publish")
    consumers.until("consumers.started")

    good = platform("delay", MEDIA, settings={"task_default_queue": queue})
    bad = platform("send_task", "clean_everything", settings={"task_default_queue": queue})

    assert (await over(runs, good))["status"] == "succeeded"

    async def dead() -> bool:
        return await queue_info(publisher.connection, f"{queue}.dead") == (1, 0)

    await eventually(dead)
    (dead_letter,) = pocketwatch.json("dead", "list", "--queue", queue)
    assert (dead_letter["message_id"], dead_letter["queue"]) == (bad, queue)
    assert 'did you mean "clean_generated_media"?' in dead_letter["error"]
    assert [consumers.stop(), publishers.stop()] == [0, 0]


async def test_queue_name_of_the_suite_is_refused(pocketwatch: Program, queue: str):
    done = pocketwatch("consume", "bridge", POCKETWATCH_CELERY_QUEUE="cleanup.media.dead")

    assert done.returncode == 1
    refused = 'POCKETWATCH_CELERY_QUEUE is "cleanup.media.dead": a queue of Pocketwatch; name one of Celery'
    assert reason_of(done) == refused


async def test_queue_arguments_are_kept(publisher: Publisher, consume: Consume, queue: str):
    arguments = {"x-max-priority": 10, "x-message-ttl": 3_600_000}
    async with publisher.connection.channel() as channel:
        await channel.declare_queue(queue, durable=True, arguments=arguments)

    async with consume(), publisher.connection.channel() as channel:
        declared: aio_pika.abc.AbstractQueue = await channel.declare_queue(queue, durable=True, arguments=arguments)

    assert declared.name == queue
