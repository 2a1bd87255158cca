"""Groups of consumers in one process, each with settings of its own; faster to start than a process for each.

python -m tests.support.several_groups '{"mail": {"DATABASE_URL": "…", "RABBITMQ_URL": "…"}, …}'
"""

import json
import os
import sys
from pathlib import Path

from consumers.app import consumers_of
from pocketwatch import logs, settings
from pocketwatch.command import run
from pocketwatch.service import serve
from pocketwatch.worker.app import ConsumerApp


def main(changes: dict[str, dict[str, str]]) -> None:
    logs.configure(settings.load().logging)
    loaded = {group: settings.load({**os.environ, **changed}, folder=Path()) for group, changed in changes.items()}
    apps = [ConsumerApp(each, consumers_of([group]), role=group) for group, each in loaded.items()]
    run(serve(apps, settings.load()))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
