"""What becomes of a message that failed."""

from datetime import timedelta

import pytest

from pocketwatch.errors import InvalidMessage, Reject, RetryLater
from pocketwatch.worker.retry_policy import (
    MAX_ATTEMPTS,
    DeadLetter,
    Retry,
    delay_queue_for,
    next_step,
)


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
    ("seconds", "wait"), [(0, "wait.10s"), (10, "wait.10s"), (11, "wait.1m"), (7200, "wait.2h"), (99999, "wait.2h")]
)
def test_shortest_sufficient_delay_is_chosen(seconds: int, wait: str):
    assert delay_queue_for(timedelta(seconds=seconds)).name == wait
