"""A process of the suite that writes on SIGUSR1 how many tasks it has: python -m tests.support.soak_process publish"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from consumers.app import consumers_of
from pocketwatch import logs, settings
from pocketwatch.service import Service, serve
from pocketwatch.worker.app import ConsumerApp
from publishers.app import PublisherApp
from tests.support.ledger import note


def main(kind: str) -> None:
    loaded = settings.load()
    logs.configure(loaded.logging)
    service: Service = (
        PublisherApp(loaded) if kind == "publish" else ConsumerApp(loaded, [*consumers_of(), note], role="soak")
    )
    asyncio.run(_counted(serve([service], loaded)))


async def _counted(work: Coroutine[Any, Any, None]) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _count)
    await work


def _count() -> None:
    """Replace the file at once, so that it is never read half written."""
    unfinished = Path(f"tasks-{os.getpid()}.new")
    unfinished.write_text(str(len(asyncio.all_tasks())))
    unfinished.rename(f"tasks-{os.getpid()}")


if __name__ == "__main__":
    main(sys.argv[1])
