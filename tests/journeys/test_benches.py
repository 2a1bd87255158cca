"""The benches work, at small sizes: each compares its contenders' work before it says how long it took."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from pocketwatch.stack.stack import Stack
from tests.fixtures.servers import ROOT, clean_environment

MADE_HERE = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs")
BENCHES = (
    "media",
    "analytics",
    "platform",
    "console",
    "events",
    "publish",
    "scale",
    "start",
    "ticks",
    "notices",
    "schedule",
    "stored_runs",
)
TIMEOUT = 1_200.0  # seconds for all of them

pytestmark = pytest.mark.timeout(TIMEOUT + 60)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The table of each bench: all run once, at small sizes, on the same servers.

    They run in a copy of the tree, so that a bench that runs in this one is not disturbed.
    """
    clone = tmp_path_factory.mktemp("benches") / "clone"
    shutil.copytree(ROOT, clone, ignore=MADE_HERE)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "bench", *BENCHES, "--quick"],
            cwd=clone,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = done.stdout.strip().split("\n\n")
        assert len(found) == len(BENCHES), done.stdout
        yield dict(zip(BENCHES, found, strict=True))
    finally:
        Stack(clone / ".pocketwatch/bench", echo=lambda _: None).down(wipe=True)


@pytest.mark.parametrize("bench", ["media", "analytics", "platform", "events", "publish", "notices", "ticks"])
def test_contenders_are_compared(tables: Mapping[str, str], bench: str):
    assert "x best peer" in tables[bench]


@pytest.mark.parametrize("bench", ["analytics", "platform"])
def test_figures_of_every_contender_are_equal(tables: Mapping[str, str], bench: str):
    assert "figures equal in every run" in tables[bench]


@pytest.mark.parametrize("bench", ["events", "publish"])
def test_queues_and_publishers_are_compared_with_what_is_written_by_hand(tables: Mapping[str, str], bench: str):
    assert "x limit" in tables[bench]
    assert "by hand: aio-pika" in tables[bench]


def test_pages_and_commands_are_timed_and_a_migration_under_writes(tables: Mapping[str, str]):
    assert {"/runs", "pocketwatch runs list", "pocketwatch doctor"} <= set(cells(tables["console"]))
    assert "pocketwatch migrate from" in tables["console"]


def test_scale_compares_processes_and_sizes(tables: Mapping[str, str]):
    assert {"1, 500", "1, 1,000", "2, 1,000"} <= set(cells(tables["scale"]))


def test_start_lasts_until_the_first_message_is_handled(tables: Mapping[str, str]):
    assert {"pocketwatch consume rates", "Celery, 1 process", "pocketwatch --help"} <= set(cells(tables["start"]))


def test_ticks_are_logged_by_every_contender(tables: Mapping[str, str]):
    assert {"Pocketwatch", "Celery, 1 process", "Celery, 2 processes"} <= set(cells(tables["ticks"]))


def test_notices_write_the_same_rows_with_every_contender(tables: Mapping[str, str]):
    assert {"Pocketwatch", "Celery, 8 threads", "Celery, 8 processes"} <= set(cells(tables["notices"]))


def test_delays_of_the_schedule_are_compared_with_an_exact_sleep(tables: Mapping[str, str]):
    found = cells(tables["schedule"])

    assert found.count("Pocketwatch") == found.count("by hand: exact sleep") == 4
    assert {"1, under full consumer load", "1, one of two tickers killed"} <= set(found)


def test_commands_and_pages_are_compared_by_the_runs_that_are_stored(tables: Mapping[str, str]):
    assert {"pocketwatch why purge-logs-daily", "pocketwatch migrate", "/", "/runs", "1,000", "10,000"} <= set(
        cells(tables["stored_runs"])
    )


def cells(tables: str) -> list[str]:
    return [cell.strip() for line in tables.splitlines() for cell in line.replace("┃", "│").split("│")]
