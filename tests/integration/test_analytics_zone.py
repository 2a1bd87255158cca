"""A time zone that Python knows and PostgreSQL does not: its time zone data is older."""

import json
import shutil
import zoneinfo
from pathlib import Path

import pytest

from tests.fixtures.activity import Activity
from tests.fixtures.suite import Program, Runs

NEW_NAME = "Europe/Newname"


@pytest.fixture
def new_zone(pocketwatch: Program, tmp_path: Path) -> None:
    """Give Python's time zone data a name that PostgreSQL's lacks, and set it."""
    known = next(path for root in zoneinfo.TZPATH if (path := Path(root, "Europe/Kyiv")).exists())
    (tmp_path / "zoneinfo/Europe").mkdir(parents=True)
    shutil.copy(known, tmp_path / "zoneinfo" / NEW_NAME)
    paths = [str(tmp_path / "zoneinfo"), *zoneinfo.TZPATH]
    pocketwatch.environment.update(PYTHONTZPATH=":".join(paths), POCKETWATCH_TIMEZONE=NEW_NAME)


@pytest.mark.usefixtures("new_zone")
async def test_zone_that_postgresql_does_not_know_is_reported_and_costs_no_attempt(
    pocketwatch: Program, activity: Activity, runs: Runs
):
    assert pocketwatch("migrate").returncode == 0
    consuming = pocketwatch.start("consume", "analytics")
    consuming.until("consumers.started")

    pocketwatch("trigger", "analytics.quick_stats")

    (waiting,) = consuming.until("message.retried")
    (logged,) = consuming.lines("analytics.zone_unknown")
    findings = {each["subject"]: each for each in json.loads(pocketwatch("doctor", "--json").stdout)}
    expected = f'POCKETWATCH_TIMEZONE is "{NEW_NAME}": PostgreSQL at '
    assert logged["error"].startswith(expected)
    assert findings["time zone"]["result"] == "problem"
    assert findings["time zone"]["detail"].startswith(expected)
    assert "update the time zone data" in findings["time zone"]["detail"]
    assert waiting["outcome"] == "skipped"
    (run,) = await runs.newest()
    assert run["error"].startswith("PostgreSQL does not know the time zone of POCKETWATCH_TIMEZONE")
