"""Where the fixtures are, and in which order tests run; nothing is imported from here."""

import gc
from pathlib import Path

import pytest

pytest_plugins = [
    "tests.fixtures.sizes",
    "tests.fixtures.servers",
    "tests.fixtures.cluster",
    "tests.fixtures.suite",
    "tests.fixtures.tokens",
    "tests.fixtures.sessions",
    "tests.fixtures.banks",
    "tests.fixtures.ads",
    "tests.fixtures.people",
    "tests.fixtures.smtp",
    "tests.fixtures.celery",
    "tests.fixtures.emails",
    "tests.fixtures.moderation",
    "tests.fixtures.mail",
    "tests.fixtures.activity",
    "tests.fixtures.reports",
    "tests.fixtures.limited",
    "tests.fixtures.site",
    "tests.fixtures.failures",
    "tests.fixtures.watched",
    "tests.fixtures.console",
    "tests.fixtures.command",
]

LOADING = ("journeys", "faults", "browser")  # folders whose tests load the machine, the longest first
LIGHT = ("unit", "contract")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files, which workers take one after the other: loading ones apart from each other, light ones last."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    loading = sorted(
        (path for path in files if path.parent.name in LOADING), key=lambda path: LOADING.index(path.parent.name)
    )
    light = [path for path in files if path.parent.name in LIGHT]
    others = [path for path in files if path.parent.name not in (*LOADING, *LIGHT)]
    places = [(number / len(loading), path) for number, path in enumerate(loading)]
    places += [((number + 0.5) / len(others), path) for number, path in enumerate(others)]
    items[:] = [item for _, path in sorted(places) for item in files[path]]
    items += [item for path in light for item in files[path]]


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays until the end: modules, tests and fixtures."""
    gc.collect()
    gc.freeze()
