"""What becomes of a message that failed."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aio_pika import Message

from pocketwatch.broker.topology import DELIVERY_LIMIT
from pocketwatch.errors import InvalidMessage, Reject, RetryLater
from pocketwatch.worker.retry_policy import (
    MAX_ATTEMPTS,
    DeadLetter,
    Retry,
    Uncounted,
    check_redelivery,
    delay_queue_for,
    next_step,
)
from schemas.envelope import DELIVERY_COUNT, Envelope

ENVELOPE = Envelope(message_id="an-id", correlation_id="an-id", exchange="ticks", routing_key="cleanup.media")


@pytest.mark.parametrize(
    ("attempt", "wait"), [(1, "wait.10s"), (2, "wait.1m"), (3, "wait.5m"), (4, "wait.30m"), (5, "wait.2h")]
)
def test_retry_delay_grows_with_each_attempt(attempt: int, wait: str):
    verdict = next_step(RuntimeError("a bug, or an outage"), attempt)

    assert isinstance(verdict, Retry)
    assert (verdict.delay_queue.name, verdict.attempt, verdict.status) == (wait, attempt + 1, "failed")


def test_last_attempt_is_dead_lettered():
    assert next_step(RuntimeError(), MAX_ATTEMPTS) == DeadLetter("dead")


def test_reject_is_not_retried():
    assert next_step(Reject("no"), 1) == DeadLetter("dead")
    assert next_step(InvalidMessage("no"), 1) == DeadLetter("rejected")


def test_retry_later_is_not_counted_as_an_attempt():
    verdict = next_step(RetryLater("busy", after=timedelta(seconds=40)), 4)

    assert isinstance(verdict, Retry)
    assert (verdict.delay_queue.name, verdict.attempt, verdict.status) == ("wait.1m", 4, "skipped")


@pytest.mark.parametrize(
    ("headers", "redeliveries"),
    [({DELIVERY_COUNT: DELIVERY_LIMIT}, 0), ({}, DELIVERY_LIMIT), ({DELIVERY_COUNT: "many"}, DELIVERY_LIMIT)],
)
def test_message_that_was_delivered_too_often_is_refused(headers: dict[str, Any], redeliveries: int):
    raw, envelope = Message(b"", headers=headers), replace(ENVELOPE, redeliveries=redeliveries)

    with pytest.raises(Reject, match=f"delivered {DELIVERY_LIMIT + 1} times without an outcome"):
        check_redelivery(raw, envelope, counted=True)  # type: ignore[arg-type]


def test_redelivery_that_the_broker_does_not_count_is_counted_first():
    fewer = DELIVERY_LIMIT - 1
    envelope = replace(ENVELOPE, redeliveries=fewer)

    check_redelivery(Message(b"", headers={DELIVERY_COUNT: fewer}), ENVELOPE, counted=False)  # type: ignore[arg-type]
    check_redelivery(Message(b""), envelope, counted=True)  # type: ignore[arg-type]
    with pytest.raises(Uncounted):
        check_redelivery(Message(b""), envelope, counted=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "wait"), [(0, "wait.10s"), (10, "wait.10s"), (11, "wait.1m"), (7200, "wait.2h"), (99999, "wait.2h")]
)
def test_shortest_sufficient_delay_is_chosen(seconds: int, wait: str):
    assert delay_queue_for(timedelta(seconds=seconds)).name == wait
