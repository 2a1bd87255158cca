"""`@consumer`: what it derives from a handler, and what it refuses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from faststream.rabbit import RabbitBroker
from faststream.specification import AsyncAPI

from consumers.app import GROUPS, consumers_of
from pocketwatch.broker.topology import TOPOLOGY, event_queue, job_queue
from pocketwatch.errors import SettingsError
from pocketwatch.settings import Settings, load
from pocketwatch.storage.database import Database
from pocketwatch.worker.app import ConsumerApp
from pocketwatch.worker.connections import subscribe
from pocketwatch.worker.consumer import Consumer, check_queues, consumer
from pocketwatch.worker.context import EventContext, JobContext, SideEffectContext
from pocketwatch.worker.executors import JobExecutor
from schemas import catalogue
from schemas.catalogue import CATALOGUE
from schemas.message import Message, Tick
from schemas.moderation import AdSubmitted
from schemas.ticks import CleanMedia, CleanTokens

QUEUE = event_queue("test.events")


@consumer
async def clean_media(tick: CleanMedia, job: JobContext) -> None: ...


def test_queue_of_a_tick_follows_from_its_message():
    assert clean_media.queue == job_queue("cleanup.media")
    assert (clean_media.message_type, clean_media.context_type) == (CleanMedia, JobContext)


def test_queue_of_an_event_is_named():
    @consumer(QUEUE, max_batch_size=7)
    async def handle(ad: AdSubmitted, event: EventContext) -> None: ...

    assert (handle.queue, handle.max_batch_size, handle.lifespan) == (QUEUE, 7, None)


def test_lifespan_is_recorded():
    @asynccontextmanager
    async def connection(settings: Settings, database: Database) -> AsyncIterator[str]:
        yield "a connection"

    @consumer(QUEUE, lifespan=connection)
    async def handle(ad: AdSubmitted, context: SideEffectContext) -> None: ...

    assert handle.lifespan is connection


def test_event_without_a_queue_is_refused():
    async def handle(ad: AdSubmitted, event: EventContext) -> None: ...

    with pytest.raises(TypeError, match=r"takes an event, AdSubmitted; name its queue: @consumer\(QUEUE\)"):
        consumer(handle)


def test_handler_without_a_context_is_refused():
    async def handle(tick: CleanMedia, work: int) -> None: ...

    with pytest.raises(TypeError, match="EventContext, JobContext, SideEffectContext"):
        consumer(handle)


def test_two_handlers_of_one_queue_are_refused(tmp_path: Path):
    @consumer
    async def clean_media_again(tick: CleanMedia, job: JobContext) -> None: ...

    with pytest.raises(TypeError, match=r'queue "cleanup\.media" has two handlers: .*clean_media, .*clean_media_again'):
        check_queues([clean_media, clean_media_again])
    with pytest.raises(TypeError, match="two handlers"):
        ConsumerApp(load({}, folder=tmp_path), [clean_media, clean_media_again], role="test")


def test_two_messages_with_one_routing_key_are_refused():
    class PurgeMedia(Tick):
        routing_key: ClassVar[str] = "cleanup.media"

    with pytest.raises(TypeError, match=r'CleanMedia and PurgeMedia have the same routing key, "cleanup\.media"'):
        catalogue.index([CleanMedia, PurgeMedia])


def test_every_queue_has_exactly_one_consumer():
    consumed = sorted(each.queue.name for each in consumers_of())

    assert consumed == sorted([*(queue.name for queue in TOPOLOGY.queues), "celery"])


@pytest.mark.parametrize("group", GROUPS)
def test_queues_of_a_group_are_named_like_the_group(group: str):
    names = {each.queue.name.partition(".")[0] for each in consumers_of([group])}

    assert names == {"celery" if group == "bridge" else group}


def test_unknown_group_is_refused():
    with pytest.raises(SettingsError, match='group "cleanups" does not exist; use one of analytics, bridge'):
        consumers_of(["cleanups"])


def test_catalogue_holds_every_published_message():
    def below(base: type[Message]) -> set[type[Message]]:
        return {base, *(each for child in base.__subclasses__() for each in below(child))}

    published = {
        each for each in below(Message) if each.__module__.startswith("schemas.") and "routing_key" in vars(each)
    }
    assert {each.__name__ for each in published} - {"CeleryTask"} == {each.__name__ for each in CATALOGUE.values()}


def test_asyncapi_document_shows_every_payload(tmp_path: Path):
    broker = RabbitBroker("amqp://127.0.0.1", apply_types=False)
    nowhere = Database("postgresql://user@127.0.0.1:1/x")
    consumers: list[Consumer] = consumers_of()
    for each in consumers:
        executor = JobExecutor(each.queue.name, each, nowhere, load({}, folder=tmp_path), single_active=True)
        subscribe(broker, each, executor)

    document = AsyncAPI(broker, schema_version="3.0.0").to_specification().to_jsonable()

    schemas = document["components"]["schemas"]
    assert set(schemas) >= {each.message_type.__name__ for each in consumers}
    assert set(schemas["CleanTokens"]["properties"]) == set(CleanTokens.model_fields)
