"""What is an outage of the database, and what is a job's own trouble."""

import errno
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import exc as sa_exc

from pocketwatch.errors import DatabaseUnreachable, RetryLater
from pocketwatch.storage.database import Database, Outcome, outcome_of
from pocketwatch.worker import backoff
from pocketwatch.worker.backoff import retry_on_outage

REFUSING = "postgresql://user@127.0.0.1:1/x"


async def test_unreachable_database_is_an_outage(tmp_path: Path):
    refusing = Database(REFUSING)
    without_socket = Database(f"postgresql://user@/x?host={tmp_path}")

    for database in (refusing, without_socket):
        with pytest.raises(DatabaseUnreachable, match="PostgreSQL at postgresql://user@") as caught:
            async with database.begin():
                pass
        assert outcome_of(caught.value) is Outcome.OUTAGE


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "missing"),
        OSError(errno.ENOSPC, "No space left on device"),  # as a write to an open file raises it
        TimeoutError(),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        asyncpg.InterfaceError("cannot perform operation: another operation is in progress"),
        asyncpg.DataError("invalid input for query argument $1: 'connection is closed'"),
        ValueError("a bug"),
    ],
    ids=repr,
)
def test_error_of_something_else_than_the_database_is_not_an_outage(error: Exception):
    assert outcome_of(error) is Outcome.FAILED


# Those that a test cannot provoke; the others are in tests/integration/test_database_errors.py.
@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (asyncpg.ProtocolViolationError("server login has been failing, try again later"), Outcome.OUTAGE),
        (asyncpg.DiskFullError("could not extend file"), Outcome.OUTAGE),
        (asyncpg.CannotConnectNowError("the database system is starting up"), Outcome.OUTAGE),
        (asyncpg.DatabaseDroppedError("terminating connection due to conflict with recovery"), Outcome.OUTAGE),
        (asyncpg.OutOfMemoryError("out of memory"), Outcome.INTERRUPTED),
        (asyncpg.CrashShutdownError("terminating connection because of crash"), Outcome.INTERRUPTED),
        (asyncpg.IdleSessionTimeoutError("terminating connection due to idle-session timeout"), Outcome.INTERRUPTED),
        (asyncpg.PostgresIOError("could not read block 7 in file"), Outcome.INTERRUPTED),
        (asyncpg.InterfaceError("cannot call Connection.execute(): connection is closed"), Outcome.INTERRUPTED),
        (sa_exc.TimeoutError("QueuePool limit of size 8 overflow 8 reached"), Outcome.INTERRUPTED),
        (asyncpg.ConfigurationLimitExceededError("temporary file size exceeds temp_file_limit"), Outcome.FAILED),
        (asyncpg.TransactionTimeoutError("canceling statement due to transaction timeout"), Outcome.FAILED),
        (asyncpg.DataCorruptedError("invalid page in block 7"), Outcome.FAILED),
        (asyncpg.IndexCorruptedError("index contains corrupted page"), Outcome.FAILED),
        (asyncpg.InternalServerError("cache lookup failed"), Outcome.FAILED),
    ],
    ids=repr,
)
def test_each_error_has_an_outcome(error: Exception, outcome: Outcome):
    assert outcome_of(error) is outcome


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


async def test_interruption_counts_as_an_attempt_once_the_message_was_held(monkeypatch: pytest.MonkeyPatch):
    """As of a statement that takes its connection with it, each time."""
    monkeypatch.setattr(backoff, "MAX_HOLD", timedelta(seconds=0.2))
    attempts: list[int] = []

    async def attempt() -> None:
        attempts.append(1)
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
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
