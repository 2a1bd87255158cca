"""`make new-job` in a copy of the project: what it writes passes the checks and works, and becomes the README's job."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fixtures.activity import Activity
from tests.fixtures.servers import ROOT, clean_environment
from tests.fixtures.suite import Program

# Without what is made; mypy's cache spares it to read everything again.
IGNORED = shutil.ignore_patterns(".venv", ".git", ".pocketwatch", ".hypothesis", "__pycache__")
BLOCK = re.compile(r"^ *```(?:python|toml)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# `make` finds everything installed; should it not, this Python refuses to install anything.
PYTHON = f"""#!/bin/sh
[ "$2" != pip ] || exit 1
exec {sys.executable} "$@"
"""
NEW_GROUP, IN_A_GROUP = "views.purge", "maintenance.count_rows"
CHECKS = ("ruff format --check .", "ruff check .", "mypy", "lint-imports")
GUARDS = [
    "tests/contract",
    *(f"tests/unit/test_{name}.py" for name in ("compose", "contracts", "docs", "kubernetes", "schedule")),
]
# Those of the docs that depend on jobs and groups.
OF_DOCS = "not test_docs or group or entry or queue or statistic or generated or broker"


pytestmark = pytest.mark.timeout(400)  # copies, checks and servers of their own


def copy_of_the_project(folder: Path) -> Path:
    shutil.copytree(ROOT, folder, ignore=IGNORED)
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(PYTHON)
    (programs / "python").chmod(0o755)
    for stamp in (".demo", ".installed"):
        (folder / ".venv" / stamp).touch()
    return folder


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=350, check=False
    )


def new_job(folder: Path, name: str) -> "subprocess.CompletedProcess[str]":
    return run(folder, "make", "--no-print-directory", "new-job", f"NAME={name}")


def contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a job in a new group and a job in one that exists."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("project") / "copy")
    for name in (NEW_GROUP, IN_A_GROUP):
        done = new_job(folder, name)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def extended(project: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Program]:
    """The command `pocketwatch` of that copy."""
    program = Program(environment | {"PYTHONPATH": str(project)}, tmp_path)
    yield program
    for process in program.started:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.split()[0])
def test_new_jobs_pass_the_checks_of_the_project(project: Path, check: str):
    program, *arguments = check.split()

    done = run(project, f"{Path(sys.executable).with_name(program)}", *arguments)

    assert done.returncode == 0, done.stdout + done.stderr


def test_new_jobs_pass_the_tests_of_jobs_and_groups(project: Path):
    done = python(project, "pytest", "-q", "-p", "no:cacheprovider", "-k", OF_DOCS, *GUARDS)

    assert done.returncode == 0, done.stdout + done.stderr


def python(folder: Path, module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run(folder, sys.executable, "-m", module, *arguments)


def test_tests_of_new_jobs_pass_on_servers_of_their_own(project: Path):
    tests = ("tests/integration/test_views_purge.py", "tests/integration/test_maintenance_count_rows.py")

    done = python(project, "pytest", "-q", "-p", "no:cacheprovider", *tests)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_new_jobs_run(extended: Program):
    migrated = extended("migrate")
    consumer = extended.start("consume", "views", "maintenance")
    consumer.until("consumers.started")

    checked = extended("schedule", "check")
    triggered = [extended("trigger", name, "--wait") for name in (NEW_GROUP, IN_A_GROUP)]
    runs = {run["job"]: run for run in extended.json("runs")}

    assert migrated.returncode == 0, migrated.stderr
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert [each.returncode for each in triggered] == [0, 0], triggered[0].stderr + triggered[1].stderr
    assert runs.keys() == {NEW_GROUP, IN_A_GROUP}
    assert [(run["status"], run["statistics"]) for run in runs.values()] == [("succeeded", {"scanned": 0})] * 2


@pytest.mark.parametrize("name", ["", "Views", "views", "views.import", "app.purge", "rates.update", NEW_GROUP])
def test_refused_name_writes_nothing(project: Path, name: str):
    before = contents(project)

    done = new_job(project, name)

    assert done.returncode != 0
    assert done.stderr.startswith(f'new-job: NAME "{name}": ')
    assert contents(project) == before


def recipe() -> list[str]:
    """The code blocks of the README's recipe, in order."""
    readme = (ROOT / "README.md").read_text()
    section = readme.split("\n## Add a job of your own\n")[1].split("\n## ")[0]
    return [re.sub(r"^   ", "", block, flags=re.MULTILINE) for block in BLOCK.findall(section)]


@pytest.fixture
def finished(project: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Program]:
    """The command `pocketwatch` of a copy in which the README's recipe was followed to its end."""
    copy = tmp_path / "finished"
    shutil.copytree(project, copy, ignore=IGNORED)
    message, handler, queries, entry = recipe()
    replace(copy / "schemas/ticks.py", r"class PurgeViews\(Tick\):\n.*?dry_run: DryRun = False\n", message)
    replace(copy / "publishers/schedule.toml", r'\[\[entry\]\]\nname = "purge-views-daily"\n.*?\nwhy = .*?\n', entry)
    for name, content in {"purge": handler, "queries": queries}.items():
        (copy / f"consumers/views/purge/{name}.py").write_text(content)
    program = Program(environment | {"PYTHONPATH": str(copy)}, tmp_path)
    yield program
    for process in program.started:
        process.kill()
        process.wait(10)


def replace(path: Path, pattern: str, text: str) -> None:
    replaced, count = re.subn(pattern, lambda _: text, path.read_text(), flags=re.DOTALL)
    assert count == 1
    path.write_text(replaced)


def test_recipe_of_the_readme_makes_it_delete(finished: Program, activity: Activity):
    now = datetime.now(UTC)
    (ad,) = activity.ads(now - timedelta(days=800))
    activity.views(now - timedelta(days=700), count=3, ad=ad)
    activity.views(now, count=2, ad=ad)

    migrated = finished("migrate")
    consumer = finished.start("consume", "views")
    consumer.until("consumers.started")
    entries = finished.json("schedule", "list")
    dry_run = finished("trigger", "views.purge", "--dry-run", "--wait")
    run = finished("trigger", "views.purge", "--wait")
    (first, second) = finished.json("runs", "--job", "views.purge")

    assert migrated.returncode == 0, migrated.stderr
    assert "purge-views-monthly" in [entry["name"] for entry in entries]
    assert (dry_run.returncode, run.returncode) == (0, 0), dry_run.stderr + run.stderr
    assert [each["statistics"]["views_deleted"] for each in (first, second)] == [3, 3]
    assert [each["dry_run"] for each in (first, second)] == [False, True]
    assert activity.rows("SELECT count(*) AS left FROM ad_views") == [{"left": 2}]
