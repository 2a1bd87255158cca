"""How what operators look at depends on the number of stored runs: commands, pages of the console, and `migrate`.

    python -m bench stored_runs
    python -m bench.stored_runs 1000 100000     other numbers

The runs are those of ninety days, with their fires and all beside them. Each entry has as many fires as pages show, so
that these show the same at all sizes; what differs is how much is stored.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from statistics import median

from rich.console import Console
from rich.table import Table

from bench import table
from bench.console import examples, in_address, served, stored, timed
from bench.console_rows import Size
from bench.servers import Say, Servers, started

SIZES, QUICK = (1_000, 10_000, 100_000, 1_000_000), (1_000, 10_000)
COMMAND_ROUNDS, PAGE_ROUNDS = 5, 40
DAYS = 90
FLAT = 1.5  # times the time with the fewest runs, at most
COMMANDS = (
    "runs",
    "runs --job mail.delivery",
    "runs --status failed",
    "runs --job mail.delivery --status failed",
    "runs show {message_id}",
    "why purge-logs-daily",
    "migrate",
)
PAGES = (
    "/",
    "/runs",
    "/runs?job=mail.delivery",
    "/runs?status=failed",
    "/runs?job=mail.delivery&status=failed",
    "/runs?before={middle}",
    "/runs/{run}",
)
VERSION = "--version"
EXECUTED = "SELECT active_time FROM pg_stat_database WHERE datname = '{}'"
PAUSE = 0.2  # seconds in which the server notices that a client has gone, and counts its statements


@dataclass(frozen=True)
class Cost:
    """What a call takes with one number of runs: its median, and the average of its statements, in milliseconds.

    Args:
        statements: as the server counts them; None for a page, as the console keeps its connections.
    """

    call: float
    statements: float | None = None


Environments = Mapping[int, Mapping[str, str]]  # by the number of runs
Costs = dict[str, dict[int, Cost]]  # by command or page


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    if quick:
        return measure(servers, say, QUICK, command_rounds=1, page_rounds=3)
    return measure(servers, say, SIZES)


def measure(
    servers: Servers,
    say: Say,
    sizes: Sequence[int],
    *,
    command_rounds: int = COMMAND_ROUNDS,
    page_rounds: int = PAGE_ROUNDS,
) -> Table:
    """Compare each call: with each number of runs in turn, so that other load on the machine affects all alike."""
    with ExitStack() as stack:
        environments = {size: stack.enter_context(stored(servers, say, Size(size, DAYS))) for size in sizes}
        costs = _commands(servers, environments, command_rounds)
        say(f"  {len(COMMANDS)} commands run {command_rounds} times each")
        costs |= _pages(environments, page_rounds)
        say(f"  {len(PAGES)} pages requested {page_rounds} times each")
    start = median(timed(VERSION, servers.environment())[0] for _ in range(command_rounds))
    return _table(costs, sizes, start, servers.versions())


def _commands(servers: Servers, environments: Environments, rounds: int) -> Costs:
    costs = Costs()
    for words in COMMANDS:
        named = {size: words.format(**examples(environment)) for size, environment in environments.items()}
        before = _executed(servers, environments)
        took: dict[int, list[float]] = {size: [] for size in environments}
        for _ in range(rounds):
            for size, environment in environments.items():
                took[size].append(timed(named[size], environment)[0])
        after = _executed(servers, environments)
        costs[f"pocketwatch {words}"] = {
            size: Cost(median(took[size]), (after[size] - before[size]) / rounds) for size in environments
        }
    return costs


def _executed(servers: Servers, environments: Environments) -> dict[int, float]:
    """Return how long the server has executed statements in each database, in milliseconds."""
    time.sleep(PAUSE)
    names = {size: environment["DATABASE_URL"].rpartition("/")[2] for size, environment in environments.items()}
    return {size: float(servers.ask(EXECUTED.format(name))[0]) for size, name in names.items()}


def _pages(environments: Environments, rounds: int) -> Costs:
    known = {size: in_address(examples(environment)) for size, environment in environments.items()}
    took: dict[str, dict[int, list[float]]] = {page: {size: [] for size in environments} for page in PAGES}
    with ExitStack() as stack:
        requests = {size: stack.enter_context(served(environment)) for size, environment in environments.items()}
        for number in range(rounds + 1):
            for page in PAGES:
                for size, request in requests.items():
                    milliseconds = request(page.format(**known[size]), HTTPStatus.OK)
                    if number:  # the first round compiles templates
                        took[page][size].append(milliseconds)
    return {page: {size: Cost(median(each)) for size, each in times.items()} for page, times in took.items()}


def _table(costs: Costs, sizes: Sequence[int], start: float, versions: str) -> Table:
    least, most = min(sizes), max(sizes)
    made = table.blank("stored_runs: milliseconds of a call, and of its statements on the server, by runs stored")
    made.add_column("command or page", overflow="fold", ratio=1)
    for size in sizes:
        made.add_column(f"{size:,}", justify="right")
    for size in (least, most):
        made.add_column(f"statements\n{size:,}", justify="right")
    made.add_column(f"x {least:,}", justify="right")
    made.add_column("verdict")
    for name, by_size in costs.items():
        times = by_size[most].call / by_size[least].call
        calls = [f"{by_size[size].call:.0f}" for size in sizes]
        statements = [_shown(by_size[size].statements) for size in (least, most)]
        style = None if times <= FLAT else "bold"
        made.add_row(name, *calls, *statements, f"{times:.2f}", verdict(times), style=style)
    made.caption = "\n".join(
        [
            f"flat: with {most:,} runs at most {FLAT:g} times as long as with {least:,}",
            f"a command includes its start; pocketwatch {VERSION} takes {start:.0f} ms",
            versions,
            table.machine(),
        ]
    )
    return made


def _shown(milliseconds: float | None) -> str:
    return table.NONE if milliseconds is None else f"{milliseconds:.1f}"


def verdict(times: float) -> str:
    return "flat" if times <= FLAT else "grows"


if __name__ == "__main__":
    with started(print) as servers:
        Console(width=160).print(measure(servers, print, tuple(map(int, sys.argv[1:])) or SIZES))
