"""Run the fault matrix, and print what was counted: python -m tests.faults.matrix [OPTION]… (see --help)"""

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

from loguru import logger

from tests.faults.matrix.boundaries import boundaries
from tests.faults.matrix.cells import OWN, SIGNALS, Cell, Result, SharedServer, is_good, run_cell
from tests.faults.matrix.parts import Site
from tests.faults.matrix.table import key, table
from tests.fixtures import servers as fixtures
from tests.fixtures.servers import ROOT, Servers, clean_environment
from tests.fixtures.suite import Program
from tests.support.vhosts import EVERYTHING

RESULTS = ROOT / ".pocketwatch" / "faults" / "results.jsonl"
THREADS = 8  # of a cell
TARGETS = {
    "ticker": (OWN, "rabbitmq", "postgres"),
    "relay": (OWN, "rabbitmq", "postgres"),
    "job": (OWN, "rabbitmq", "postgres"),
    "batch": (OWN, "rabbitmq", "postgres"),
    "side effect": (OWN, "rabbitmq", "postgres", "mail"),
    "sessions": ("redis",),  # the executor is that of jobs
}


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def cells(pattern: str) -> list[Cell]:
    """Return the cells whose name matches."""
    found = [
        Cell(part, (boundary,), target, fault)
        for part, targets in TARGETS.items()
        for target in targets
        for boundary, fault in product(boundaries(part), SIGNALS)
    ]
    return [cell for cell in found if re.search(pattern, str(cell))]


def stored() -> list[dict[str, Any]]:
    """Return the results of earlier runs, oldest first."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def groups_of(chosen: Sequence[Cell], *, size: int) -> list[list[Cell]]:
    """Group the cells that strike the same server in the same way; each group runs on the same servers."""
    alike: dict[Any, list[Cell]] = {}
    for cell in chosen:
        alike.setdefault(cell if cell.target == OWN else (cell.target, cell.fault), []).append(cell)
    return [each[start : start + size] for each in alike.values() for start in range(0, len(each), size)]


@contextmanager
def site(servers: Servers, number: int) -> Iterator[Site]:
    """A vhost, a database and a database of Redis of one's own, and processes that end with the block."""
    name = f"faults_{uuid4().hex[:12]}"
    with servers.management as api:
        api.put(f"/vhosts/{name}").raise_for_status()
        user = servers.urls["RABBITMQ_URL"].split("//")[1].split(":")[0]
        api.put(f"/permissions/{name}/{user}", json=EVERYTHING).raise_for_status()
    servers.sql(f"CREATE DATABASE {name} TEMPLATE {fixtures.TEMPLATE}")
    with tempfile.TemporaryDirectory() as folder:
        media = Path(folder, "media")
        media.mkdir()
        environment = clean_environment(
            RABBITMQ_URL=f"{servers.amqp(name)}?heartbeat=10",  # a frozen process is noticed within its freeze
            RABBITMQ_MANAGEMENT_URL=servers.urls["RABBITMQ_MANAGEMENT_URL"],
            DATABASE_URL=servers.postgresql(name),
            REDIS_URL=f"{servers.urls['REDIS_URL'].rpartition('/')[0]}/{number}",
            SMTP_URL=servers.urls["SMTP_URL"],
            POCKETWATCH_MEDIA_ROOT=str(media),
            POCKETWATCH_PATIENCE="120s",
            POCKETWATCH_LOG_FORMAT="json",
            PYTHONPATH=str(ROOT),
        )
        program = Program(environment, Path(folder))
        try:
            yield Site(servers, name, servers.postgresql(name), program)
        finally:
            for process in program.started:
                process.kill()
                process.wait(10)
    servers.sql(f"DROP DATABASE {name} WITH (FORCE)")
    with servers.management as api:
        api.delete(f"/vhosts/{name}").raise_for_status()


async def run(chosen: Sequence[Cell], servers: Sequence[Servers], options: argparse.Namespace) -> list[Result]:
    """Run as many groups of cells at a time as there are sets of servers."""
    threads = THREADS * len(servers) * options.together  # some cells wait for a server that another one starts
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(threads))
    free = asyncio.Queue[Servers]()
    for each in servers:
        free.put_nowait(each)
    results: list[Result] = []

    async def one(cell: Cell, own: Servers, number: int, server: SharedServer | None) -> None:
        with site(own, number) as place:
            result = await run_cell(
                cell, place, repetitions=options.repetitions, seed=options.seed, freeze=options.freeze, server=server
            )
        results.append(result)
        with RESULTS.open("a") as file:
            file.write(json.dumps(result.row()) + "\n")
        mark = "ok " if result.is_good else "BAD"
        say(f"{mark} {cell}: {result.summary}")

    async def together(cells: Sequence[Cell]) -> None:
        own, first = await free.get(), cells[0]
        server = SharedServer(own.stack, first.target, first.fault, members=len(cells), freeze=options.freeze)
        shared = None if first.target == OWN else server
        await asyncio.gather(*(one(cell, own, number, shared) for number, cell in enumerate(cells)))
        free.put_nowait(own)

    await asyncio.gather(*map(together, groups_of(chosen, size=options.together)))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("cells", nargs="?", default="", help="a regular expression, such as 'relay.*process kill'")
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--freeze", type=lambda text: timedelta(seconds=float(text)), default=timedelta(minutes=1))
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="groups of cells at a time, each on its own servers"
    )
    parser.add_argument(
        "--together",
        type=int,
        default=5,
        help="cells on the same servers, which strike the same server in the same way",
    )
    parser.add_argument("--resume", action="store_true", help="leave out cells with a good result of earlier runs")
    parser.add_argument("--list", action="store_true", help="print the cells")
    options = parser.parse_args()
    logger.remove()  # else each retried publish is logged
    chosen = cells(options.cells)
    if options.resume:
        done = {key(row) for row in stored() if is_good(row)}
        chosen = [cell for cell in chosen if key(cell.row()) not in done]
    if options.list:
        say("\n".join(map(str, chosen)))
        return 0
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with ExitStack() as stack:
        servers = [
            stack.enter_context(fixtures.running(fixtures.data_folder(ROOT, f"faults-{number}")))
            for number in range(min(options.jobs, len(groups_of(chosen, size=options.together))))
        ]
        for each in servers:
            fixtures.make_template(each)
        results = asyncio.run(run(chosen, servers, options))
    say(table([result.row() for result in results]))
    say(f"{len(results)} cells, seed {options.seed}, {time.monotonic() - began:.0f} s")
    return 0 if len(results) == len(chosen) and all(result.is_good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
