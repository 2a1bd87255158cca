"""The benches work, at small sizes: each compares its contenders' work before it says how long it took."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketwatch.stack.stack import Stack
from tests.fixtures.servers import ROOT, clean_environment

MADE_HERE = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs")
TIMEOUT = 280.0


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A copy of the tree, so that a bench that runs in this one is not disturbed."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT, folder, ignore=MADE_HERE)
    yield folder
    Stack(folder / ".pocketwatch/bench", echo=lambda _: None).down(wipe=True)


def quick(clone: Path, *benches: str) -> str:
    """Run these benches, at small sizes; return their tables."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *benches, "--quick"],
        cwd=clone,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_benches_check_the_work_of_every_contender(clone: Path):
    tables = quick(clone, "media", "analytics", "platform", "console")

    assert tables.count("x best peer") == 3
    assert tables.count("figures equal in every run") == 2
    assert "pocketwatch migrate from" in tables


@pytest.mark.timeout(300)
def test_queues_and_publishers_are_compared_with_what_is_written_by_hand(clone: Path):
    tables = quick(clone, "events", "publish")

    assert tables.count("x limit") == 2
    assert tables.count("by hand: aio-pika") == 2


@pytest.mark.timeout(300)
def test_scale_compares_processes_and_sizes(clone: Path):
    assert {"1, 500", "1, 1,000", "2, 1,000"} <= set(cells(quick(clone, "scale")))


@pytest.mark.timeout(300)
def test_start_lasts_until_the_first_message_is_handled(clone: Path):
    tables = quick(clone, "start")

    assert {"pocketwatch consume rates", "Celery, 1 process", "pocketwatch --help"} <= set(cells(tables))


@pytest.mark.timeout(300)
def test_ticks_are_logged_by_every_contender(clone: Path):
    tables = quick(clone, "ticks")

    assert {"Pocketwatch", "Celery, 1 process", "Celery, 2 processes"} <= set(cells(tables))


@pytest.mark.timeout(300)
def test_notices_write_the_same_rows_with_every_contender(clone: Path):
    tables = quick(clone, "notices")

    assert {"Pocketwatch", "Celery, 8 threads", "Celery, 8 processes"} <= set(cells(tables))


@pytest.mark.timeout(300)
def test_delays_of_the_schedule_are_compared_with_an_exact_sleep(clone: Path):
    tables = quick(clone, "schedule")

    assert cells(tables).count("Pocketwatch") == cells(tables).count("by hand: exact sleep") == 4
    assert {"1, under full consumer load", "1, one of two tickers killed"} <= set(cells(tables))


@pytest.mark.timeout(300)
def test_commands_and_pages_are_compared_by_the_runs_that_are_stored(clone: Path):
    tables = quick(clone, "stored_runs")

    assert {"pocketwatch why purge-logs-daily", "pocketwatch migrate", "/", "/runs", "1,000", "10,000"} <= set(
        cells(tables)
    )


def cells(tables: str) -> list[str]:
    return [cell.strip() for line in tables.splitlines() for cell in line.replace("┃", "│").split("│")]
