"""What becomes of a message that failed."""

from datetime import timedelta

import pytest

from pocketwatch.errors import GiveUp, Malformed, TryLater
from pocketwatch.worker.retry_policy import (
    ATTEMPTS,
    Again,
    Dead,
    decide,
    wait_of,
)


@pytest.mark.parametrize(
    ("attempt", "wait"), [(1, "wait.10s"), (2, "wait.1m"), (3, "wait.5m"), (4, "wait.30m"), (5, "wait.2h")]
)
def test_a_failed_attempt_waits_longer_each_time(attempt: int, wait: str):
    verdict = decide(RuntimeError("a bug, or an outage"), attempt)

    assert isinstance(verdict, Again)
    assert (verdict.wait.name, verdict.attempt, verdict.status) == (wait, attempt + 1, "failed")


def test_after_the_last_attempt_a_message_is_dead():
    assert decide(RuntimeError(), ATTEMPTS) == Dead("dead")


def test_what_cannot_help_is_not_tried_again():
    assert decide(GiveUp("no"), 1) == Dead("dead")
    assert decide(Malformed("no"), 1) == Dead("rejected")


def test_trying_later_is_not_counted_as_an_attempt():
    verdict = decide(TryLater("busy", after=timedelta(seconds=40)), 4)

    assert isinstance(verdict, Again)
    assert (verdict.wait.name, verdict.attempt, verdict.status) == ("wait.1m", 4, "skipped")


@pytest.mark.parametrize(
    ("seconds", "wait"), [(0, "wait.10s"), (10, "wait.10s"), (11, "wait.1m"), (7200, "wait.2h"), (99999, "wait.2h")]
)
def test_the_wait_is_the_shortest_that_is_long_enough(seconds: int, wait: str):
    assert wait_of(timedelta(seconds=seconds)).name == wait
