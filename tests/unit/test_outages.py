"""What is an outage of the database, and what is a job's own trouble."""

from pathlib import Path

import pytest

from pocketwatch.storage.database import Database, is_outage


async def test_a_database_that_does_not_answer_is_an_outage(tmp_path: Path):
    refusing = Database("postgresql://user@127.0.0.1:1/x")
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
