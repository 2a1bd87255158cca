"""Traces: one from the fire of an entry to the email, as an OTLP receiver sees it."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from loguru import logger

from consumers.mail.delivery import deliver_email
from pocketwatch.broker import dead_letters
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.broker.topology import job_queue
from pocketwatch.errors import Reject
from pocketwatch.monitoring import tracing
from pocketwatch.settings import Monitoring, Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.app import ConsumerApp
from pocketwatch.worker.consumer import Consumer, consumer
from pocketwatch.worker.context import JobContext
from publishers.schedule import Entry, Schedule
from publishers.ticker import Ticker
from schemas.emails import PlainEmail
from schemas.envelope import TRACEPARENT, Envelope
from schemas.mail import MailRequested
from schemas.ticks import CleanMedia
from tests.fixtures.servers import Servers
from tests.fixtures.smtp import SmtpServer
from tests.fixtures.suite import Runs
from tests.support.otlp import ReceivedSpan, Receiver, receiver
from tests.support.waiting import eventually

JOB = "cleanup.media"
FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def received() -> Iterator[Receiver]:
    with receiver() as opened:
        yield opened


def to(received: Receiver) -> Monitoring:
    return Monitoring.model_validate(
        {"POCKETWATCH_OTLP_ENDPOINT": received.url, "POCKETWATCH_OTLP_SERVICE_NAME": "shop"}
    )


@consumer
async def fail_once_then_write(tick: CleanMedia, job: JobContext) -> None:
    if job.envelope.attempt == 1:
        raise RuntimeError("the first attempt fails")
    job.publish(MailRequested(to="reader@example.com", letter=PlainEmail(subject="Done", paragraphs=["text"])))


@pytest.fixture
def quick_retries(servers: Servers, vhost: str) -> None:
    """The shortest of two limits counts: messages leave the first delay queue at once."""
    policy = {"pattern": "^wait[.]10s$", "apply-to": "queues", "definition": {"message-ttl": 50}}
    with servers.management as api:
        api.put(f"/policies/{vhost}/quick", json=policy).raise_for_status()


async def test_one_trace_from_the_fire_to_the_email_through_a_retry(
    received: Receiver,
    settings: Settings,
    database: Database,
    relay: None,
    quick_retries: None,
    smtp: SmtpServer,
    runs: Runs,
):
    servers = settings.servers.model_copy(update={"smtp_url": smtp.url})
    changed = settings.model_copy(update={"servers": servers})
    entry = Entry.model_validate({"name": "often", "cron": "* * * * * *", "job": JOB, "why": "x", "timezone": "UTC"})
    wanted: list[Consumer] = [fail_once_then_write, deliver_email]
    async with tracing.exporting(to(received)), ConsumerApp(changed, wanted, role="test"):
        ticker = Ticker(database, Schedule(entries=(entry,)))
        await ticker.begin()
        message_id = await eventually(lambda: _fire(ticker, runs))

        async def sent() -> bool:
            return bool(smtp.emails)

        await eventually(sent)
        await eventually(lambda: _ended(runs, f"{message_id}.{JOB}.1"))

    fire, first = received.one("fire often"), _attempt(received, 1)
    second, tick = _attempt(received, 2), received.one(f"publish {JOB}")
    request, delivery = received.one("publish mail.requested"), received.one("process mail.delivery")
    email = received.one("send email")
    first_handled, second_handled = (_child(received, f"handle {JOB}", each) for each in (first, second))
    chain = [fire, tick, first, second, request, delivery, received.one("handle mail.delivery"), email]
    assert {span.trace_id for span in chain} == {fire.trace_id}
    assert [span.parent for span in chain] == ["", *(span.span_id for span in chain[:-1])]
    assert (first.is_error, second.is_error) == (True, False)
    assert (first_handled.is_error, second_handled.is_error) == (True, False)
    assert first.attributes["messaging.message.id"] == second.attributes["messaging.message.id"] == message_id
    assert email.attributes == {"email.name": "plain", "email.locale": "uk", "email.outcome": "sent"}
    assert {span.service for span in received.spans} == {"shop"}


async def _fire(ticker: Ticker, runs: Runs) -> str | None:
    await ticker.tick()
    found = await runs.newest(job=JOB)
    return str(found[0]["message_id"]) if found else None


async def _ended(runs: Runs, message_id: str) -> bool:
    rows = await runs.of(message_id)
    return bool(rows) and rows[-1]["status"] == "succeeded"


def _attempt(received: Receiver, number: int) -> ReceivedSpan:
    (found,) = (each for each in received.named(f"process {JOB}") if each.attributes["pocketwatch.attempt"] == number)
    return found


def _child(received: Receiver, name: str, parent: ReceivedSpan) -> ReceivedSpan:
    (found,) = (span for span in received.named(name) if span.parent == parent.span_id)
    return found


@consumer
async def log_and_fail_once(tick: CleanMedia, job: JobContext) -> None:
    logger.info("test.handling")
    if job.envelope.attempt == 1:
        raise RuntimeError("the first attempt fails")


async def test_lines_of_a_message_name_it_and_its_span(
    received: Receiver,
    settings: Settings,
    publisher: Publisher,
    quick_retries: None,
    runs: Runs,
    log_lines: list[dict[str, Any]],
):
    sent = Envelope(message_id="a-message", correlation_id="a-cause", exchange="ticks", routing_key=JOB)
    async with tracing.exporting(to(received)), ConsumerApp(settings, [log_and_fail_once], role="test"):
        await publisher.publish(message_of(sent, {}), exchange="ticks", routing_key=JOB)
        await runs.until("a-message", lambda row: row["status"] == "succeeded")

    first, second = _attempt(received, 1), _attempt(received, 2)
    lines = [line for line in log_lines if line.get("job") == JOB]
    assert {line["event"] for line in lines} == {"test.handling", "message.retried", "message.handled"}
    assert {(line["message_id"], line["correlation_id"]) for line in lines} == {("a-message", "a-cause")}
    assert {line["trace_id"] for line in lines} == {first.trace_id}
    handled = [_child(received, f"handle {JOB}", each).span_id for each in (first, second)]
    assert [line["span_id"] for line in lines] == [handled[0], first.span_id, handled[1], second.span_id]


@pytest.mark.parametrize("traced", [False, True])
async def test_lines_of_publishers_name_the_message(
    received: Receiver,
    settings: Settings,
    database: Database,
    publisher: Publisher,
    log_lines: list[dict[str, Any]],
    *,
    traced: bool,
):
    entry = Entry.model_validate({"name": "often", "cron": "* * * * * *", "job": JOB, "why": "x", "timezone": "UTC"})
    async with tracing.exporting(to(received) if traced else Monitoring()):
        ticker = Ticker(database, Schedule(entries=(entry,)))
        await ticker.begin()

        async def fired() -> dict[str, Any] | None:
            await ticker.tick()
            return next((line for line in log_lines if line["event"] == "schedule.fired"), None)

        line = await eventually(fired)

    assert line["correlation_id"] == line["message_id"]
    assert line.get("span_id") == (received.one("fire often").span_id if traced else None)


@consumer
async def refuse_until_requeued(tick: CleanMedia, job: JobContext) -> None:
    if not job.envelope.requeued:
        raise Reject("not yet")


# The headers of five messages, by message id: that of a valid trace, and what is ignored.
HEADERS: dict[str, Any] = {
    "valid": FOREIGN,
    "nonsense": "nonsense",
    "zero": FOREIGN.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
    "number": 7,
    "none": None,
}


async def test_trace_of_others_goes_on_through_dead_letter_and_requeue(
    received: Receiver, settings: Settings, publisher: Publisher, runs: Runs
):
    async with tracing.exporting(to(received)), ConsumerApp(settings, [refuse_until_requeued], role="test"):
        for message_id, header in HEADERS.items():
            envelope = Envelope(message_id=message_id, correlation_id="c", exchange="ticks", routing_key=JOB)
            headers = {} if header is None else {TRACEPARENT: header}
            message = message_of(envelope, {}, headers=headers)
            await publisher.publish(message, exchange="ticks", routing_key=JOB)
        requeued: list[str] = []

        async def all_requeued() -> bool:
            moved = await dead_letters.requeue(publisher, job_queue(JOB), lambda _: True)
            requeued.extend(each.message_id for each in moved)
            return len(requeued) == len(HEADERS)

        await eventually(all_requeued)
        for message_id in HEADERS:
            await eventually(partial(_ended, runs, message_id))

    for message_id in HEADERS:
        first, second = (
            span for span in received.named(f"process {JOB}") if span.attributes["messaging.message.id"] == message_id
        )
        assert second.trace_id == first.trace_id
        assert second.parent == first.span_id
        if message_id == "valid":
            assert (first.trace_id, first.parent) == tuple(FOREIGN.split("-")[1:3])
        else:
            assert (first.trace_id != FOREIGN.split("-")[1], first.parent) == (True, "")
