"""The least rights with which each process works, on RabbitMQ and in PostgreSQL."""

from collections.abc import Sequence
from importlib import import_module

from consumers.app import GROUPS, consumers_of
from pocketwatch.broker import permissions
from pocketwatch.broker.permissions import Permissions
from pocketwatch.broker.topology import celery_queue
from pocketwatch.errors import SettingsError
from pocketwatch.storage import privileges
from pocketwatch.storage.privileges import Privileges
from pocketwatch.worker.context import EventContext

PUBLISHERS = "publishers"
NAMES = (PUBLISHERS, *GROUPS)


def permissions_of(names: Sequence[str], *, celery: str) -> Permissions:
    """Return what processes of these names may do on the broker, `celery` being Celery's queue.

    Raises:
        SettingsError: for an unknown name.
    """
    found = Permissions()
    for name in _known(names):
        found |= permissions.of_publishers() if name == PUBLISHERS else _of_group(name, celery)
    return found


def _of_group(group: str, celery: str) -> Permissions:
    queues = [each.queue for each in consumers_of([group])]
    return permissions.of_consumers([celery_queue(celery) if queue.external else queue for queue in queues])


def privileges_of(names: Sequence[str]) -> Privileges:
    """Return what processes of these names may do in the database.

    Raises:
        SettingsError: for an unknown name.
    """
    return privileges.merge(each for name in _known(names) for each in _tables(name))


def _tables(name: str) -> Sequence[Privileges]:
    if name == PUBLISHERS:
        return (privileges.PUBLISHERS,)
    own: Privileges = import_module(f"consumers.{name}.privileges").PRIVILEGES
    handles_events = any(each.context_type is EventContext for each in consumers_of([name]))
    return (privileges.CONSUMERS, *([privileges.EVENT_CONSUMERS] if handles_events else []), own)


def _known(names: Sequence[str]) -> Sequence[str]:
    for name in names:
        if name not in NAMES:
            raise SettingsError(f'there is no group "{name}"; known are {", ".join(NAMES)}')
    return names
