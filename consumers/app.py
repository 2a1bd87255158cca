"""Groups of consumers: each folder of this package is one. A process runs one group, several, or all."""

import pkgutil
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import consumers
from pocketwatch.errors import SettingsError
from pocketwatch.settings import Settings
from pocketwatch.watchdog import checks
from pocketwatch.watchdog.check import Check
from pocketwatch.worker.consumer import Consumer, check_queues
from schemas.catalogue import CATALOGUE
from schemas.message import Message

if TYPE_CHECKING:
    from pocketwatch.service import Service

# Of a group: for doctor and the command line, which a process does without; a client, imported with its first request.
NOT_LOADED = {"checks", "commands", "http"}
GROUPS = tuple(module.name for module in pkgutil.iter_modules(consumers.__path__) if module.ispkg)


def consumers_of(groups: Sequence[str] = ()) -> list[Consumer]:
    """Import these groups, or all, and return their consumers.

    Raises:
        SettingsError: for a group that does not exist.
        TypeError: when two consumers have the same queue.
    """
    for name in groups:
        if name not in GROUPS:
            raise SettingsError(f'group "{name}" does not exist; use one of {", ".join(GROUPS)}')
    found = [consumer for name in groups or GROUPS for consumer in _consumers_in(f"consumers.{name}")]
    check_queues(found)
    return found


def services(settings: Settings, groups: Sequence[str] = ()) -> "list[Service]":
    """Return what a process that consumes these groups, or all, runs: the consumers and the watchdog."""
    from pocketwatch.watchdog.app import WatchdogApp  # noqa: PLC0415  commands that only list consumers do without
    from pocketwatch.worker.app import ConsumerApp  # noqa: PLC0415

    consuming = ConsumerApp(settings, consumers_of(groups), role=" ".join(groups or ["all"]))
    return [consuming, WatchdogApp(settings, watchdog_checks())]


def __getattr__(name: str) -> Any:
    """Make `consumers.app:app` for FastStream's command line when it is asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pocketwatch.worker.faststream_app import FastStreamApp  # noqa: PLC0415

    return FastStreamApp(consumers_of(), services)


def group_of(queue: str) -> str | None:
    """Return the group that consumes a queue."""
    return next((each.group for each in consumers_of() if each.queue.name == queue), None)


def message_types_of(group: str) -> set[type[Message]]:
    """Return the published types that the group's modules name: it cannot publish any other."""
    published = set(CATALOGUE.values())
    return {
        member for _, member in _members_in(f"consumers.{group}") if isinstance(member, type) and member in published
    }


def watchdog_checks() -> list[Check]:
    """Return what the watchdog looks at: its own checks, and those in `problems.py` of the groups."""
    return [*checks.CHECKS, *(check for module in problem_modules() for check in module.CHECKS)]


def problem_modules() -> list[Any]:
    """Import the modules of all groups that hold checks of the watchdog and the privileges that they need."""
    names = [f"consumers.{group}.problems" for group in GROUPS]
    return [import_module(name) for name in names if find_spec(name) is not None]


def _consumers_in(package: str) -> Iterator[Consumer]:
    for module, member in _members_in(package):
        if isinstance(member, Consumer) and member.is_defined_in(module):
            yield member


def _members_in(package: str) -> Iterator[tuple[str, Any]]:
    for module in pkgutil.iter_modules(import_module(package).__path__, f"{package}."):
        if module.name.rpartition(".")[2] not in NOT_LOADED:
            yield from ((module.name, member) for member in vars(import_module(module.name)).values())
            if module.ispkg:
                yield from _members_in(module.name)
