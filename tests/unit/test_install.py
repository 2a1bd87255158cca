"""What the Makefile installs for which command."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.locks import PROJECT, locked

LOCKS = ("", "demo", "dev", "bench", "build")
SUITE = ("consumers", "console", "publishers", "schemas", "templates", "pocketwatch")
INSTALLS = re.compile(r"pip install .*-r requirements(?:-(\w+))?\.lock")


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(lock: str) -> set[str]:
    return {requirement.partition("==")[0] for requirement in locked(lock)}


def imported(*folders: str) -> set[str]:
    """The top-level modules that these folders import, without the standard library's and the project's own."""
    found = set()
    for file in (file for folder in folders for file in (PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {*SUITE, "demo"}


@pytest.mark.parametrize(("folders", "lock"), [(SUITE, ""), ((*SUITE, "demo"), "demo")])
def test_every_import_is_of_a_package_that_is_installed_for_it(folders: tuple[str, ...], lock: str):
    distributions = packages_distributions()
    modules = imported(*folders)

    assert len(modules) > 10
    missing = {module for module in modules if not {*map(normalized, distributions[module])} & names(lock)}
    assert missing == set()


def test_demo_is_installed_without_what_only_tests_and_checks_need():
    assert names("") < names("demo") < names("dev") < names("bench")
    assert names("demo").isdisjoint({"pytest", "mypy", "ruff", "hypothesis", "import-linter", "django-redis"})


def test_a_package_has_one_version_in_all_lock_files():
    versions = defaultdict(set)
    for lock in LOCKS:
        for requirement in locked(lock):
            versions[requirement.partition("==")[0]].add(requirement)

    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with what the Makefile reads, all of it old."""
    for name in ("Makefile", "pyproject.toml", *(path.name for path in PROJECT.glob("requirements*.lock"))):
        shutil.copy(PROJECT / name, tmp_path)
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / ".venv").mkdir()
    return tmp_path


def would_install(project: Path, target: str) -> list[str]:
    """Which lock files `make` would install, without doing it."""
    done = subprocess.run(["make", "-n", target], cwd=project, capture_output=True, text=True, check=True)
    return INSTALLS.findall(done.stdout)


def is_made(project: Path, stamp: str, *, at: int) -> None:
    (project / ".venv" / stamp).touch()
    os.utime(project / ".venv" / stamp, (at, at))


@pytest.mark.parametrize("target", ["demo", "up"])
def test_demo_installs_what_it_needs_and_that_once(project: Path, target: str):
    first = would_install(project, target)
    is_made(project, ".demo", at=10)

    assert first == ["build", "demo"]
    assert would_install(project, target) == []


@pytest.mark.parametrize("target", ["test", "check", "install"])
def test_tests_complete_what_the_demo_has_installed(project: Path, target: str):
    first = would_install(project, target)
    is_made(project, ".demo", at=10)
    after_demo = would_install(project, target)
    is_made(project, ".installed", at=20)

    assert first == ["build", "demo", "dev"]
    assert after_demo == ["dev"]
    assert would_install(project, target) == would_install(project, "demo") == []


@pytest.mark.parametrize(
    ("lock", "demo", "test"), [("demo", ["build", "demo"], ["build", "demo", "dev"]), ("dev", [], ["dev"])]
)
def test_changed_lock_is_installed(project: Path, lock: str, demo: list[str], test: list[str]):
    is_made(project, ".demo", at=10)
    is_made(project, ".installed", at=20)
    os.utime(project / f"requirements-{lock}.lock", (30, 30))

    assert would_install(project, "demo") == demo
    assert would_install(project, "test") == test


def test_long_installation_is_announced(project: Path):
    done = subprocess.run(["make", "-n", "demo"], cwd=project, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()

    (announced,) = [number for number, line in enumerate(lines) if "echo" in line and "installing the" in line]
    assert announced < min(number for number, line in enumerate(lines) if "-m venv" in line or "pip install" in line)
