"""The figures of the front page: our `analytics.quick_stats`, the whole way through, against the old task's counts.

    python -m bench analytics                     a million ads, ten million views
    python -m bench.analytics 100000 1000000      other numbers

Both work on the same database, which is alive: before each run of ours some more views have come.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from bench import jobs, marketplace_rows, memory, programs, table
from bench.marketplace_rows import Marketplace
from bench.rounds import Contender, Sample, alternate
from bench.servers import Say, Servers, WorkNotDone, started
from schemas.ticks import QuickStats

TARGET = 20  # times as fast as the counts
MOST = 150 * memory.MB
DATABASE = "bench_analytics"
ZONE = "Europe/Kyiv"
QUICK, FULL = Marketplace(20_000, 200_000), Marketplace(1_000_000, 10_000_000)
NEW_VIEWS = 1000  # before each run: some hours of a site with ten million in two years

# Of the same size as the others: shorter ones would fill the gaps that are left in the pages of the whole table.
MORE_VIEWS = """
INSERT INTO ad_views (created_at, updated_at, ip_address, user_agent, session_key, ad_id)
SELECT now(), now(), ip_address, user_agent, session_key, ad_id FROM ad_views
WHERE id > (SELECT max(id) FROM ad_views) - %(count)s
"""
AN_HOUR_LATER = "UPDATE daily_activity SET rolled_up_at = now() - interval '2 hours'"
OF_AN_AD = "SELECT ad_id FROM ad_views GROUP BY ad_id ORDER BY count(*) DESC LIMIT 1"
DELETE = ("DELETE FROM ad_views WHERE ad_id = %(ad)s", "DELETE FROM car_ads WHERE id = %(ad)s")


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """The comparison."""
    return compare(servers, say, QUICK if quick else FULL)


def compare(servers: Servers, say: Say, size: Marketplace) -> Table:
    """Ours first without any roll-up, then in turns with the counts, then after an ad has gone with its views."""
    with filled(servers, say, size):
        first = _ours(servers)
        say(f"  the first run, which rolls everything up: {first.seconds:.2f} s")
        contenders = (
            Contender("Pocketwatch analytics.quick_stats", OURS, lambda: _grown(servers), ours=True),
            Contender("eight counts", THEIRS, lambda: _counted(servers)[0]),
        )
        results = alternate(contenders, rounds=5, warm_up=True, say=say)
        servers.ask(AN_HOUR_LATER, DATABASE)
        refreshed = _ours(servers)
        gone = _delete_an_ad(servers)
        corrected = _ours(servers)
    peak = max(sample.peak for sample in (first, refreshed, corrected, *results[0].samples))
    verdict = "met" if peak <= MOST else "MISSED"
    others = f"with the last days, once an hour: {refreshed.seconds:.2f} s; after an ad has gone with {gone:,} views"
    return table.compare(
        f"analytics: quick_stats with {size.ads:,} ads, {size.users:,} users and {size.views:,} views",
        results,
        caption=[
            f"first run: {first.seconds:.2f} s; {others}: {corrected.seconds:.2f} s",
            f"target: at most {MOST // memory.MB} MB: {verdict} ({peak / memory.MB:.0f})",
            f"figures equal in every run; {servers.versions()}",
        ],
        target=TARGET,
    )


OURS = (
    "in a consumer that has done it before: roll-up of what is new, one snapshot of nine figures, a row, a key, a fact;"
    " s: its run-log row"
)
THEIRS = "one statement each, on one connection; s: the statements alone"


@contextmanager
def filled(servers: Servers, say: Say, size: Marketplace) -> Iterator[str]:
    """A database with a marketplace of this size, settled; yields its name."""
    with servers.database(name=DATABASE):
        began = time.perf_counter()
        marketplace_rows.fill(servers.url(DATABASE), size)
        servers.settle(DATABASE)
        say(f"  {size.ads:,} ads and {size.views:,} views are there, after {time.perf_counter() - began:.0f} s")
        yield DATABASE


def more_views(servers: Servers) -> None:
    """Some that have come since the last run."""
    with psycopg.connect(servers.url(DATABASE)) as connection:
        connection.execute(MORE_VIEWS.encode(), {"count": NEW_VIEWS})


def _grown(servers: Servers) -> Sample:
    more_views(servers)
    return _ours(servers, warm=True)


def _ours(servers: Servers, *, warm: bool = False) -> Sample:
    done = jobs.measure(QuickStats(), servers.environment(DATABASE_URL=servers.url(DATABASE)), warm=warm)
    _, figures = _counted(servers)
    if (found := {name: done.statistics.get(name) for name in figures}) != figures:
        raise WorkNotDone(f"quick_stats says {found}, should be {figures}")
    return done.sample


def _counted(servers: Servers) -> tuple[Sample, dict[str, int]]:
    return asked(servers, "bench.peers.counts")


def asked(servers: Servers, peer: str) -> tuple[Sample, Any]:
    """How long a peer's statements took, and the figures that it found."""
    environment = servers.environment(DATABASE_URL=servers.url(DATABASE))
    done = programs.run(programs.module(peer, ZONE), environment)
    found = json.loads(done.output)
    return Sample(found["seconds"], peak=done.peak, wall=done.seconds), found["figures"]


def _delete_an_ad(servers: Servers) -> int:
    """The one with the most views goes with them; how many those were."""
    with psycopg.connect(servers.url(DATABASE)) as connection:
        (ad,) = connection.execute(OF_AN_AD).fetchone() or (0,)
        views, _ = (connection.execute(statement.encode(), {"ad": ad}).rowcount for statement in DELETE)
    return views


def main(arguments: list[str], compare: Callable[[Servers, Say, Marketplace], Table]) -> None:
    """A comparison by itself, with other numbers of ads and views if they are given."""
    progress = Console(stderr=True, highlight=False)
    size = Marketplace(*map(int, arguments)) if arguments else FULL
    with started(progress.print) as servers:
        Console(width=160, highlight=False).print(compare(servers, progress.print, size))


if __name__ == "__main__":
    main(sys.argv[1:], compare)
