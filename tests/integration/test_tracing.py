"""Traces: one from the fire of an entry to the email, as an OTLP receiver sees it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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
PROJECT = Path(__file__).parents[2]


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
async def refuse_until_requeued(tick: CleanMedia, job: JobContext) -> None:
    if not job.envelope.requeued:
        raise Reject("not yet")


@pytest.mark.parametrize(
    ("header", "is_valid"),
    [
        (FOREIGN, True),
        ("nonsense", False),
        (FOREIGN.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), False),
        (7, False),
        (None, False),
    ],
)
async def test_trace_of_others_goes_on_through_dead_letter_and_requeue(
    header: Any, is_valid, received: Receiver, settings: Settings, publisher: Publisher, runs: Runs
):
    envelope = Envelope(message_id="m", correlation_id="m", exchange="ticks", routing_key=JOB)
    message = message_of(envelope, {}, headers={} if header is None else {TRACEPARENT: header})
    async with tracing.exporting(to(received)), ConsumerApp(settings, [refuse_until_requeued], role="test"):
        await publisher.publish(message, exchange="ticks", routing_key=JOB)
        await runs.over("m")

        async def requeued() -> bool:
            return bool(await dead_letters.requeue(publisher, job_queue(JOB), lambda _: True))

        await eventually(requeued)
        await eventually(lambda: _ended(runs, "m"))

    first, second = _attempt(received, 1), _attempt(received, 2)
    assert second.trace_id == first.trace_id
    assert second.parent == first.span_id
    assert (first.trace_id == FOREIGN.split("-")[1]) is is_valid
    assert first.parent == (FOREIGN.split("-")[2] if is_valid else "")


def test_missing_packages_are_one_clear_line(tmp_path: Path):
    code = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None; "
        "sys.argv[1:] = ['publish']; from console.cli.main import main; main()"
    )
    environment = {
        "PATH": "/usr/bin",
        "PYTHONPATH": str(PROJECT),
        "POCKETWATCH_OTLP_ENDPOINT": "http://127.0.0.1:4318",
        "POCKETWATCH_LOG_FORMAT": "json",
    }

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith(
        'pocketwatch: POCKETWATCH_OTLP_ENDPOINT is "http://127.0.0.1:4318", and the packages for it are not installed'
    )
    assert line.endswith("install them: pip install 'pocketwatch[otel]'")
    assert "Traceback" not in done.stderr


async def test_without_an_endpoint_no_span_is_made_and_the_handler_is_untouched():
    async with tracing.exporting(Monitoring()):
        assert tracing.begin("a") is None
        assert tracing.traced("a", json.dumps) is json.dumps  # type: ignore[arg-type, comparison-overlap]
        with tracing.within("a") as span:
            assert span is None


async def test_receiver_that_does_not_answer_keeps_no_process_from_its_end():
    settings = Monitoring.model_validate({"POCKETWATCH_OTLP_ENDPOINT": "http://127.0.0.1:9"})

    async with tracing.exporting(settings):
        with tracing.within("a"):
            pass
