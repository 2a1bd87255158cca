"""The README's recipe for a job of your own, performed in a copy of the project."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from tests.fixtures.activity import Activity
from tests.fixtures.suite import Program

PROJECT = Path(__file__).parents[2]
PACKAGES = ("console", "consumers", "pocketwatch", "publishers", "schemas", "templates")
BLOCK = re.compile(r"^ *```(?:python|toml)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project with the job of the README in it."""
    for package in PACKAGES:
        shutil.copytree(PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    recipe = readme.partition("## Add a job of your own")[2].partition("\n## ")[0]
    message, handler, queries, entry = (dedent(block) for block in BLOCK.findall(recipe))
    _append(tmp_path / "schemas/ticks.py", message)
    _append(tmp_path / "publishers/schedule.toml", entry)
    group = tmp_path / "consumers/views"
    group.mkdir()
    for name, text in {"__init__.py": "", "purge.py": handler, "queries.py": queries}.items():
        (group / name).write_text(text, encoding="utf-8")
    return tmp_path


def _append(file: Path, text: str) -> None:
    file.write_text(f"{file.read_text(encoding='utf-8')}\n\n{text}", encoding="utf-8")


def test_job_of_the_readme_runs(copy: Path, pocketwatch: Program, activity: Activity):
    now = datetime.now(UTC)
    activity.views(now - timedelta(days=400), count=30)
    activity.views(now - timedelta(days=10), count=7)
    project = {"PYTHONPATH": str(copy)}

    migrated = pocketwatch("migrate", **project)
    assert migrated.returncode == 0, migrated.stderr
    checked = pocketwatch("schedule", "check", **project)
    assert "purge-old-views-monthly" in checked.stdout, checked.stderr
    pocketwatch.start("consume", "views", **project)
    tried = pocketwatch("trigger", "views.purge", "--dry-run", "--wait", **project)
    done = pocketwatch("trigger", "views.purge", "--wait", **project)

    assert "views_deleted=30" in tried.stdout, tried.stderr
    assert "views_deleted=30" in done.stdout, done.stderr
    assert activity.rows("SELECT count(*) AS left FROM ad_views")[0]["left"] == 7
