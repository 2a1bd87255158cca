"""Checks of an installation, for `pocketwatch doctor`."""

from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from importlib.util import find_spec

from console.checks.broker import check_broker
from console.checks.cluster import check_cluster
from console.checks.database import check_database
from console.checks.installation import check_folders, check_redis, check_schedule, check_settings
from console.checks.problems import check_problems
from console.checks.suite import check_suite
from consumers.app import GROUPS
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings

Check = Callable[[Settings], AsyncIterator[Finding]]

CHECKS: dict[str, Check] = {
    "settings": check_settings,
    "schedule": check_schedule,
    "folders": check_folders,
    "database": check_database,
    "redis": check_redis,
    "broker": check_broker,
    "cluster": check_cluster,
    "suite": check_suite,
    "problems": check_problems,
}


def all_checks() -> Iterator[tuple[str, Check]]:
    """Yield the checks above and those in `checks.py` of the groups, each with its subject."""
    yield from CHECKS.items()
    for group in GROUPS:
        if find_spec(f"consumers.{group}.checks") is not None:
            yield group, import_module(f"consumers.{group}.checks").check
