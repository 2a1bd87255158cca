"""Groups of consumers in one process, each with settings of its own; faster to start than a process for each.

python -m tests.support.several_groups '{"mail": {"DATABASE_URL": "…", "RABBITMQ_URL": "…"}, …}'
"""

import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from consumers.app import consumers_of
from pocketwatch import logs, settings
from pocketwatch.command import run
from pocketwatch.presence import Presence
from pocketwatch.service import serve
from pocketwatch.settings import Settings
from pocketwatch.worker.app import ConsumerApp


def main(changes: dict[str, dict[str, str]]) -> None:
    logs.configure(settings.load().logging)
    loaded = {group: settings.load({**os.environ, **changed}, folder=Path()) for group, changed in changes.items()}
    run(consume(loaded))


async def consume(loaded: dict[str, Settings]) -> None:
    apps = [ConsumerApp(each, consumers_of([group]), role=group) for group, each in loaded.items()]
    async with AsyncExitStack() as stack:
        for app, its in zip(apps, loaded.values(), strict=True):  # as in a process of its own
            await stack.enter_async_context(Presence(its.database_url, kind=app.kind, facts=app.facts))
        await serve(apps, settings.load())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
