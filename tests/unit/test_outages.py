"""What is an outage of the database, and what is a job's own trouble."""

from datetime import timedelta
from pathlib import Path

import pytest

from pocketwatch.errors import RetryLater
from pocketwatch.storage.database import Database, is_outage
from pocketwatch.worker import backoff
from pocketwatch.worker.backoff import retry_on_outage

REFUSING = "postgresql://user@127.0.0.1:1/x"


async def test_unreachable_database_is_an_outage(tmp_path: Path):
    refusing = Database(REFUSING)
    without_socket = Database(f"postgresql://user@/x?host={tmp_path}")

    for database in (refusing, without_socket):
        with pytest.raises(OSError) as caught:  # noqa: PT011  which one is the system's business
            async with database.begin():
                pass
        assert is_outage(caught.value)


def test_file_error_is_not_an_outage(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as caught:
        (tmp_path / "missing").read_text()

    assert not is_outage(caught.value)


async def test_message_is_held_only_for_a_limited_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backoff, "MAX_HOLD", timedelta(seconds=0.2))
    attempts: list[int] = []

    async def attempt() -> None:
        attempts.append(1)
        async with Database(REFUSING).begin():
            pass

    with pytest.raises(RetryLater, match="the database is unavailable"):
        await retry_on_outage(attempt)

    assert len(attempts) > 1


async def test_other_errors_are_not_retried():
    attempts: list[int] = []

    async def attempt() -> None:
        attempts.append(1)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await retry_on_outage(attempt)

    assert len(attempts) == 1
