"""What `doctor` says of the platform's side: who else handles the same, where tasks go on, and where results are."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import aio_pika
import pytest
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel

from consumers.bridge.checks import check
from pocketwatch.broker.declare import declare_missing
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import CELERY
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Consume
from tests.support.vhosts import Vhosts
from tests.support.waiting import eventually

PLATFORM_QUEUE = "moderation_notifications"
SUBJECT = "other consumers"


@pytest.fixture
def vhost(vhosts: Vhosts) -> Iterator[str]:
    """A vhost that no other test gets, because foreign queues are bound in it."""
    name = vhosts.take(declared=False)
    yield name
    vhosts.give_back(name)


@pytest.fixture
async def stranger(settings: Settings, publisher: Publisher) -> AsyncIterator[AbstractChannel]:
    """A channel of another program."""
    await declare_missing(publisher.connection, CELERY)
    async with await aio_pika.connect(settings.rabbitmq_urls[0]) as connection, connection.channel() as channel:
        yield channel


async def ignore(_: object) -> None:
    """Handle nothing."""


async def bind(channel: AbstractChannel, *, consumed: bool) -> None:
    """Do what the platform's management command does."""
    queue = await channel.declare_queue(PLATFORM_QUEUE, durable=True)
    exchange = await channel.declare_exchange("manager_notifications", ExchangeType.TOPIC, durable=True)
    await queue.bind(exchange, "manager.ad.*")
    if consumed:
        await queue.consume(ignore, consumer_tag="moderation")


async def known_to_the_api(servers: Servers, vhost: str, queue: str, consumers: int) -> None:
    """Wait until the management API knows so many consumers of the queue, which takes it some seconds."""
    with servers.management as api:

        async def known() -> bool:
            found: dict[str, Any] = api.get(f"/queues/{vhost}/{queue}").json()
            channels = [each["channel_details"] for each in found["consumer_details"] if each["channel_details"]]
            names = [quote(channel["connection_name"], safe="") for channel in channels]
            return len(names) == consumers and all(api.get(f"/connections/{name}").is_success for name in names)

        await eventually(known)


def changed(settings: Settings, *, forward: str | None = None, **servers: Any) -> Settings:
    bridge = settings.bridge.model_copy(update={"celery_forward_queue": forward})
    return settings.model_copy(update={"bridge": bridge, "servers": settings.servers.model_copy(update=servers)})


async def found(settings: Settings) -> dict[str, Finding]:
    return {finding.subject: finding async for finding in check(settings)}


async def test_consumers_that_handle_the_same_are_named(
    servers: Servers, vhost: str, settings: Settings, stranger: AbstractChannel, consume: Consume
):
    await bind(stranger, consumed=True)
    await (await stranger.get_queue("celery")).consume(ignore, consumer_tag="worker")
    async with consume():
        await known_to_the_api(servers, vhost, PLATFORM_QUEUE, 1)
        await known_to_the_api(servers, vhost, "celery", 2)

        findings = await found(settings)

    double, competing = findings[PLATFORM_QUEUE], findings["consumers of celery"]
    assert (double.result, competing.result) == ("warning", "warning")
    assert double.detail.startswith(
        "gets a copy of what is published to manager_notifications, and 1 consumers "
        '("moderation" of aiormq from 127.0.0.1) handle it a second time, so that rows and emails are doubled; '
        f"stop manage.py start_moderation_consumer, then run: rabbitmqctl delete_queue -p {vhost} {PLATFORM_QUEUE}"
    )
    assert competing.detail == (
        '1 consumers ("worker" of aiormq from 127.0.0.1) take tasks that Pocketwatch should handle; '
        "stop these Celery workers, or start them with --queues QUEUE (POCKETWATCH_CELERY_FORWARD_QUEUE)"
    )


async def test_queue_without_consumers_that_fills_up_is_named(settings: Settings, stranger: AbstractChannel):
    await bind(stranger, consumed=False)

    by_api, by_amqp = await found(settings), await found(changed(settings, rabbitmq_management_url=None))

    for findings in (by_api, by_amqp):
        assert findings[PLATFORM_QUEUE].result == "warning"
        assert "has no consumer: 0 messages, which grow; delete the queue" in findings[PLATFORM_QUEUE].detail


async def test_platforms_own_consumer_is_found_without_the_api(settings: Settings, stranger: AbstractChannel):
    settings = changed(settings, rabbitmq_management_url=None)
    before = await found(settings)

    await bind(stranger, consumed=True)

    after = await found(settings)
    assert before[SUBJECT].result == "ok"
    assert "and 1 consumers handle it a second time" in after[PLATFORM_QUEUE].detail


async def test_no_other_consumer_is_fine(settings: Settings, stranger: AbstractChannel, consume: Consume):
    async with consume():
        findings = await found(settings)

    assert findings[SUBJECT] == Finding(SUBJECT, "ok", "no other consumer handles what Pocketwatch handles")


async def test_forward_queue_is_checked(settings: Settings, stranger: AbstractChannel):
    settings = changed(settings, forward="site.tasks")
    missing = await found(settings)
    queue = await stranger.declare_queue("site.tasks", durable=True)
    unused = await found(settings)
    await queue.consume(ignore)
    used = await found(settings)

    assert [each["site.tasks"].result for each in (missing, unused, used)] == ["problem", "warning", "ok"]
    assert missing["site.tasks"].detail == (
        "the forward queue does not exist, so tasks wait to be retried; "
        "start the Celery workers: celery worker --queues site.tasks"
    )


async def test_redis_of_results_is_checked(servers: Servers, settings: Settings, stranger: AbstractChannel):
    subject = "POCKETWATCH_CELERY_RESULTS"

    answers = await found(changed(settings, celery_results=servers.urls["REDIS_URL"]))
    silent = await found(changed(settings, celery_results="redis://127.0.0.1:1/0"))

    assert answers[subject].result == "ok"
    assert (silent[subject].result, "Redis at 127.0.0.1:1/0 does not answer" in silent[subject].detail) == (
        "problem",
        True,
    )
    assert subject not in await found(settings)
