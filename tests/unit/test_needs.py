"""What a consumer may need for as long as its process lives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from faststream.rabbit import RabbitRouter

from consumers.mail import sender
from pocketwatch.broker.topology import event_queue
from pocketwatch.errors import SettingsError
from pocketwatch.settings import Settings, load
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import EventContext, SideEffectContext
from pocketwatch.worker.middleware import CONSUMERS, consumer
from schemas.ticks import CleanMedia

QUEUE = event_queue("test.needs")


@asynccontextmanager
async def connection(settings: Settings, database: Database) -> AsyncIterator[str]:
    yield "a kept connection"


def test_only_an_errand_may_need_something_outside_the_database():
    async def handle(tick: CleanMedia, event: EventContext) -> None: ...

    with pytest.raises(TypeError, match="must take an Errand"):
        consumer(RabbitRouter(), QUEUE, needs=connection)(handle)
    assert QUEUE.name not in CONSUMERS


def test_what_it_needs_is_known_by_its_queue(monkeypatch: pytest.MonkeyPatch):
    async def handle(tick: CleanMedia, context: SideEffectContext) -> None: ...

    monkeypatch.setattr("pocketwatch.worker.middleware.CONSUMERS", known := {})
    consumer(RabbitRouter(), QUEUE, needs=connection)(handle)

    assert known[QUEUE.name].needs is connection


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POCKETWATCH_MAIL_FROM", "Shop <no..reply@shop.example>"),
        ("POCKETWATCH_UNSUBSCRIBE_URL", "https://shop.example/un subscribe/"),
        ("SMTP_URL", "smtp://user:secret@mail.example:25"),
    ],
)
async def test_what_would_fail_every_letter_refuses_to_start(name: str, value: str, tmp_path):
    usual = {"SMTP_URL": "smtp://127.0.0.1:1", "POCKETWATCH_WEB_TOKEN_SECRET": "s" * 32}
    settings = load(usual | {name: value}, folder=tmp_path)
    database = Database("postgresql://nowhere")

    with pytest.raises(SettingsError, match=name) as refused:
        async with sender.open_desk(settings, database):
            pass

    assert "secret@" not in str(refused.value)
    await database.close()
