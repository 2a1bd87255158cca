"""The consumer of `ledger` as a process of its own, to be killed: python -m tests.support.ledger_process"""

import asyncio

from pocketwatch import logs, settings
from pocketwatch.service import serve
from pocketwatch.worker.app import ConsumerApp
from tests.support.ledger import note


def main() -> None:
    loaded = settings.load()
    logs.configure(loaded.logging)
    asyncio.run(serve([ConsumerApp(loaded, [note], role="ledger")], loaded))


if __name__ == "__main__":
    main()
