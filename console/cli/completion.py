"""What the shell completes: values that the suite itself knows, without asking a server."""

from collections.abc import Iterator
from contextlib import suppress

from pocketwatch.errors import PocketwatchError


def jobs(incomplete: str) -> Iterator[tuple[str, str]]:
    from schemas.catalogue import TICK_TYPES  # noqa: PLC0415  only for completion

    for tick in TICK_TYPES:
        if tick.routing_key.startswith(incomplete):
            yield tick.routing_key, (tick.__doc__ or "").partition("\n")[0]


def entries(incomplete: str) -> Iterator[tuple[str, str]]:
    from pocketwatch.settings import load as read_settings  # noqa: PLC0415
    from publishers.schedule import load  # noqa: PLC0415

    with suppress(PocketwatchError):  # the command itself says what is wrong
        for entry in load(read_settings().running.schedule).entries:
            if entry.name.startswith(incomplete):
                yield entry.name, entry.why


def queues(incomplete: str) -> Iterator[str]:
    from pocketwatch.broker.topology import TOPOLOGY  # noqa: PLC0415

    yield from (queue.name for queue in TOPOLOGY.queues if queue.name.startswith(incomplete))


def groups(incomplete: str) -> Iterator[str]:
    from consumers.app import GROUPS  # noqa: PLC0415

    yield from (group for group in GROUPS if group.startswith(incomplete))
