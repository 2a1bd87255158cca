"""The least rights with which each process works, on RabbitMQ and in PostgreSQL."""

from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from operator import or_

from consumers import app
from consumers.app import GROUPS, consumers_of
from consumers.moderation import privileges as moderation
from pocketwatch.broker import permissions
from pocketwatch.broker.permissions import Permissions
from pocketwatch.broker.topology import celery_queue, with_celery
from pocketwatch.errors import SettingsError
from pocketwatch.storage import privileges
from pocketwatch.storage.privileges import Privileges
from pocketwatch.worker.context import EventContext
from schemas.catalogue import CATALOGUE, TICK_TYPES
from schemas.facts import IncidentOpened, IncidentRecovered, RunFailed
from schemas.mail import MailRequested
from schemas.message import Message

PUBLISHERS, WEB, MIGRATE = "publishers", "web", "migrate"
PROCESSES = (PUBLISHERS, *GROUPS)
NAMES = (*PROCESSES, WEB, MIGRATE)
# The last three are of the watchdog.
EVERY_GROUP: set[type[Message]] = {RunFailed, IncidentOpened, IncidentRecovered, MailRequested}


def permissions_of(names: Sequence[str], *, celery: str, forward: str | None = None) -> Permissions:
    """Return what processes of these names may do on the broker.

    Args:
        celery: Celery's queue.
        forward: the queue to which the bridge hands tasks on.

    Raises:
        SettingsError: for an unknown name.
    """
    return reduce(or_, (_permissions(name, celery, forward) for name in _known(names)))


def _permissions(name: str, celery: str, forward: str | None) -> Permissions:
    if name == PUBLISHERS:
        return permissions.of_publishers()
    if name == WEB:
        return permissions.of_console(with_celery(celery))
    if name == MIGRATE:
        return permissions.of_migration(with_celery(celery))
    queues = [each.queue for each in consumers_of([name])]
    forwards = forward is not None and any(queue.external for queue in queues)
    named = [celery_queue(celery) if queue.external else queue for queue in queues]
    return permissions.of_consumers(named, forwards=forwards)


def privileges_of(names: Sequence[str]) -> Privileges:
    """Return what processes of these names may do in the database; `migrate` owns the tables.

    Raises:
        SettingsError: for an unknown name.
    """
    return privileges.merge(each for name in _known(names) for each in _tables(name))


def _tables(name: str) -> Sequence[Privileges]:
    if name == PUBLISHERS:
        return (privileges.PUBLISHERS, privileges.SUITE_FIGURES)
    if name == WEB:
        return (privileges.WEB, privileges.STAFF, privileges.reads(moderation.PRIVILEGES))
    if name == MIGRATE:
        return ()
    watched = (module.PRIVILEGES for module in app.problem_modules())
    found = [privileges.CONSUMERS, privileges.WATCHDOG, privileges.WATCHED, *watched]
    if any(each.context_type is EventContext for each in consumers_of([name])):
        found.append(privileges.EVENT_CONSUMERS)
    if find_spec(f"consumers.{name}.privileges") is not None:
        found.append(import_module(f"consumers.{name}.privileges").PRIVILEGES)
    return found


def message_types_of(names: Sequence[str]) -> set[type[Message]]:
    """Return what processes of these names may put into the outbox.

    Raises:
        SettingsError: for an unknown name.
    """
    return {each for name in _known(names) for each in _message_types(name)}


def _message_types(name: str) -> set[type[Message]]:
    if name == PUBLISHERS:
        return set(TICK_TYPES)
    if name == WEB:
        return set(CATALOGUE.values())
    return set() if name == MIGRATE else app.message_types_of(name) | EVERY_GROUP


def _known(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in NAMES:
            raise SettingsError(f'group "{name}" does not exist; use one of {", ".join(NAMES)}')
    return names
