"""How events scale: with the number of processes, and with the number of messages that wait.

python -m bench scale
"""

from dataclasses import replace

from rich.table import Table

from bench import backlog, events, table
from bench.backlog import Side
from bench.rounds import Contender, Sample, alternate
from bench.servers import Say, Servers, WorkNotDone

OF_ONE = 1.6  # times as fast as one process, of two
HANDLED = 10_000  # of more that wait, so many are measured
MEMORY = 8 * 2**30  # bytes that the broker may use: RabbitMQ 3.10 keeps what waits on a quorum queue in memory
OURS: Side = events.SIDES[0]


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Compare by the time per message."""
    sizes = (500, 1_000) if quick else (1_000, 10_000, 1_000_000)
    servers.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({{absolute, {MEMORY}}}).")
    cases = [(1, size) for size in sizes] + [(2, sizes[1])]
    compared = [Contender(name(*case), "", lambda case=case: _measure(servers, *case), ours=True) for case in cases]
    results = alternate(compared, rounds=1 if quick else 3, warm_up=False, say=say)
    found = table.blank(f"scale: events that wait, each with its rows; of more than {HANDLED:,}, so many are measured")
    for column in ("processes, messages", "µs per message", "spread"):
        found.add_column(column, justify="left" if column.startswith("processes") else "right")
    costs = {}
    for (processes, waiting), result in zip(cases, results, strict=True):
        each = sorted(sample.seconds / min(waiting, HANDLED) * 1e6 for sample in result.samples)
        costs[processes, waiting] = result.seconds / min(waiting, HANDLED) * 1e6
        found.add_row(result.contender.name, f"{costs[processes, waiting]:.0f}", f"{each[0]:.0f} … {each[-1]:.0f}")
    times = costs[1, sizes[1]] / costs[2, sizes[1]]
    found.caption = (
        f"{servers.versions()}\n{table.machine()}\n"
        f"target: two processes at least {OF_ONE:g} times as fast as one: {table.judged(times, OF_ONE)}"
    )
    return found


def name(processes: int, waiting: int) -> str:
    return f"{processes}, {waiting:,}"


def _measure(servers: Servers, processes: int, waiting: int) -> Sample:
    with servers.own() as (database, environment):
        servers.ask(events.TABLE, database)
        measured = min(waiting, HANDLED)
        before = 0 if waiting == measured else waiting
        side = replace(OURS, processes=processes, before=before)
        with backlog.waiting(
            servers,
            side,
            waiting - before,
            warm_up=events.WARM_UP,
            done=events.ROWS,
            database=database,
            environment=environment,
        ) as work:
            handled = servers.ask(events.ROWS, database)[0] if before else events.WARM_UP
            sample = work.measure(handled + measured)
        written, distinct = servers.ask(events.EACH_NUMBER, database)
    if written < handled + measured or written > events.WARM_UP + distinct:
        raise WorkNotDone(f"{written} rows were written of {distinct} numbers")
    return sample
