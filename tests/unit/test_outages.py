"""What is an outage of the database, and what is a job's own trouble."""

from datetime import timedelta
from pathlib import Path

import pytest

from pocketwatch.errors import RetryLater
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.worker import backoff
from pocketwatch.worker.backoff import retry_on_outage

REFUSING = "postgresql://user@127.0.0.1:1/x"


async def test_a_database_that_does_not_answer_is_an_outage(tmp_path: Path):
    refusing = Database(REFUSING)
    without_socket = Database(f"postgresql://user@/x?host={tmp_path}")

    for database in (refusing, without_socket):
        with pytest.raises(OSError) as caught:  # noqa: PT011  which one is the system's business
            async with database.begin():
                pass
        assert is_outage(caught.value)


def test_a_jobs_trouble_with_a_file_is_no_outage_of_the_database(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "missing").read_text()

    assert not is_outage(caught.value)


async def test_a_message_is_not_held_for_ever_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backoff, "MAX_HOLD", timedelta(seconds=0.2))
    attempts: list[int] = []

    async def attempt() -> None:
        attempts.append(1)
        async with Database(REFUSING).begin():
            pass

    with pytest.raises(RetryLater, match="the database is away"):
        await retry_on_outage(attempt)

    assert len(attempts) > 1


async def test_what_is_no_outage_is_not_tried_again():
    attempts: list[int] = []

    async def attempt() -> None:
        attempts.append(1)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await retry_on_outage(attempt)

    assert len(attempts) == 1
