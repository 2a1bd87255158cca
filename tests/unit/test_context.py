"""What a message passes on to the messages that it publishes."""

from dataclasses import replace
from pathlib import Path

import pytest

from pocketwatch import settings
from pocketwatch.clock import utc_now
from pocketwatch.storage.database import Database
from pocketwatch.storage.run_log import Run
from pocketwatch.worker.context import JobContext
from schemas import envelope as metadata
from schemas.envelope import Envelope
from schemas.ticks import CleanTokens

TRIED = Envelope(
    message_id="an-id",
    correlation_id="the-first",
    exchange="ticks",
    routing_key="cleanup.tokens",
    entry="an-entry",
    attempt=3,
    attempts_before=6,
)


@pytest.fixture
def job(tmp_path: Path) -> JobContext:
    loaded, nowhere = settings.load({}, folder=tmp_path), Database("postgresql://user@127.0.0.1:1/x")
    return JobContext(Run(TRIED.routing_key, TRIED), utc_now(), database=nowhere, settings=loaded, stopping=bool)


@pytest.mark.parametrize("way", ["continue_with", "republish"])
def test_continued_or_republished_message_starts_with_its_first_attempt(job: JobContext, way: str):
    getattr(job, way)(CleanTokens())

    ((_, row),) = job.rows
    assert (row["correlation_id"], row["headers"][metadata.ENTRY]) == ("the-first", "an-entry")
    read = metadata.read(message_id="x", correlation_id="x", exchange="", routing_key="", headers=row["headers"])
    assert (read.attempt, read.attempts_before) == (1, 0)


def test_continued_message_is_not_routed_by_a_header_of_others(job: JobContext):
    job.envelope = replace(TRIED, routing_key="cleanup.media")  # as `x-origin-routing-key` may say

    job.continue_with(CleanTokens())

    ((_, row),) = job.rows
    assert row["routing_key"] == "cleanup.tokens"
