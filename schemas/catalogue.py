"""The message catalogue: every message type by its routing key, derived from the modules of this package."""

import difflib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module

import schemas
from schemas.message import Message, Tick


def _message_types() -> Iterator[type[Message]]:
    for module in pkgutil.iter_modules(schemas.__path__, "schemas."):
        if module.name != __name__:
            members = vars(import_module(module.name)).values()
            yield from (each for each in members if _is_published(each) and each.__module__ == module.name)


def _is_published(member: object) -> bool:
    """Base classes have no routing key; messages that only others publish have no exchange."""
    is_message = inspect.isclass(member) and issubclass(member, Message)
    return is_message and hasattr(member, "routing_key") and bool(getattr(member, "exchange", ""))


def index(message_types: Iterable[type[Message]]) -> Mapping[str, type[Message]]:
    """Index message types by routing key.

    Raises:
        TypeError: when two have the same one.
    """
    found: dict[str, type[Message]] = {}
    for each in message_types:
        first = found.setdefault(each.routing_key, each)
        if first is not each:
            raise TypeError(f'{first.__name__} and {each.__name__} have the same routing key, "{each.routing_key}"')
    return found


CATALOGUE = index(_message_types())
TICK_TYPES: tuple[type[Tick], ...] = tuple(each for each in CATALOGUE.values() if issubclass(each, Tick))


def schema_of(routing_key: str) -> type[Message]:
    """Return the message type of this routing key.

    Raises:
        LookupError: for an unknown key; its text names the closest job, or all of them.
    """
    if (schema := CATALOGUE.get(routing_key)) is not None:
        return schema
    jobs = sorted(tick.routing_key for tick in TICK_TYPES)
    near = difflib.get_close_matches(routing_key, jobs, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(jobs)}"
    raise LookupError(f'there is no job "{routing_key}"; {hint}')
