"""The README's recipe for a job of one's own, performed step by step in a copy of the project."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fixtures.activity import Activity
from tests.fixtures.servers import ROOT
from tests.fixtures.suite import Program

IGNORED = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs", "bench")
BLOCK = re.compile(r"^ *```(?:python|toml)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def recipe() -> list[str]:
    """The code blocks of the recipe, in order."""
    readme = (ROOT / "README.md").read_text()
    section = readme.split("\n## Add a job of your own\n")[1].split("\n## ")[0]
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in BLOCK.findall(section)]


@pytest.fixture
def extended(environment: dict[str, str], tmp_path: Path) -> Program:
    """The command `pocketwatch` of a copy to which the recipe was applied."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=IGNORED)
    message, handler, queries, entry = recipe()
    with (clone / "schemas/ticks.py").open("a") as file:
        file.write(f"\n\n{message}")
    group = clone / "consumers/views"
    group.mkdir()
    for name, content in {"__init__": "", "purge": handler, "queries": queries}.items():
        (group / f"{name}.py").write_text(content)
    with (clone / "publishers/schedule.toml").open("a") as file:
        file.write(f"\n{entry}")
    return Program(environment | {"PYTHONPATH": str(clone)}, tmp_path)


@pytest.mark.timeout(240)
def test_recipe_of_the_readme_adds_a_job(extended: Program, activity: Activity):
    now = datetime.now(UTC)
    (ad,) = activity.ads(now - timedelta(days=800))
    activity.views(now - timedelta(days=700), count=3, ad=ad)
    activity.views(now, count=2, ad=ad)

    migrated = extended("migrate")
    consumer = extended.start("consume", "views")
    consumer.until("consumers.started")
    try:
        entries = extended.json("schedule", "list")
        dry_run = extended("trigger", "views.purge", "--dry-run", "--wait")
        run = extended("trigger", "views.purge", "--wait")
        (first, second) = extended.json("runs", "--job", "views.purge")
    finally:
        consumer.stop()

    assert migrated.returncode == 0, migrated.stderr
    assert "purge-old-views-monthly" in [entry["name"] for entry in entries]
    assert (dry_run.returncode, run.returncode) == (0, 0), dry_run.stderr + run.stderr
    assert [each["statistics"]["views_deleted"] for each in (first, second)] == [3, 3]
    assert [each["dry_run"] for each in (first, second)] == [False, True]
    assert activity.rows("SELECT count(*) AS left FROM ad_views") == [{"left": 2}]
