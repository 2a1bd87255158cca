"""The figures of the front page: `analytics.quick_stats`, from message to run log, against eight plain counts.

    python -m bench analytics                     a million ads, ten million views
    python -m bench.analytics 100000 1000000      other numbers

Both read the same database; before each run of the job some views are inserted.
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

TARGET = 15  # times as fast as the counts
MOST = 150 * memory.MB
DATABASE = "bench_analytics"
ZONE = "Europe/Kyiv"
QUICK, FULL = Marketplace(20_000, 200_000), Marketplace(1_000_000, 10_000_000)
ROUNDS = 5
NEW_VIEWS = 1000  # before each run: some hours of a site with ten million in two years

# Of the same size as the others: shorter ones would fill the gaps that are left in the pages of the whole table.
MORE_VIEWS = """
INSERT INTO ad_views (created_at, updated_at, ip_address, user_agent, session_key, ad_id)
SELECT now(), now(), ip_address, user_agent, session_key, ad_id FROM ad_views
WHERE id > (SELECT max(id) FROM ad_views) - %(count)s
"""
AN_HOUR_LATER = "UPDATE daily_activity SET rolled_up_at = rolled_up_at - interval '61 minutes'"
HOURS = 24  # after which the rolling re-count has found all deletions
OF_AN_AD = "SELECT ad_id FROM ad_views GROUP BY ad_id ORDER BY count(*) DESC LIMIT 1"
DELETE = ("DELETE FROM ad_views WHERE ad_id = %(ad)s", "DELETE FROM car_ads WHERE id = %(ad)s")


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    return compare(servers, say, QUICK if quick else FULL, rounds=2 if quick else ROUNDS)


def compare(servers: Servers, say: Say, size: Marketplace, *, rounds: int = ROUNDS) -> Table:
    """Roll up first, then alternate with the counts, then delete an ad and run until its views are gone."""
    with filled(servers, say, size):
        first = _ours(servers)
        say(f"  the first run, which rolls everything up: {first.seconds:.2f} s")
        contenders = (
            Contender("Pocketwatch analytics.quick_stats", OURS, lambda: _grown(servers), ours=True),
            Contender("eight counts", THEIRS, lambda: _counted(servers)[0]),
        )
        results = alternate(contenders, rounds=rounds, warm_up=True, say=say)
        deleted = _delete_an_ad(servers)
        hourly = _until_exact(servers)
    peak = max(sample.peak for sample in (first, *hourly, *results[0].samples))
    verdict = "met" if peak <= MOST else "MISSED"
    slowest = max(sample.seconds for sample in hourly)
    return table.compare(
        f"analytics: quick_stats with {size.ads:,} ads, {size.users:,} users and {size.views:,} views",
        results,
        caption=[
            f"first run: {first.seconds:.2f} s; once an hour, with open days and a re-count: at most {slowest:.2f} s",
            f"{deleted:,} deleted views left the figures after {len(hourly)} hourly runs",
            f"target: at most {MOST // memory.MB} MB: {verdict} ({peak / memory.MB:.0f})",
            f"figures equal in every run; {servers.versions()}",
        ],
        target=TARGET,
    )


OURS = (
    "in a warm consumer: roll-up of new views, nine figures of one snapshot, a row, a Redis key, an event; "
    "s: its run-log row"
)
THEIRS = "one statement each, on one connection; s: the statements alone"


@contextmanager
def filled(servers: Servers, say: Say, size: Marketplace) -> Iterator[str]:
    """Create a database with a marketplace of this size, vacuumed and analyzed; yield its name."""
    with servers.database(name=DATABASE):
        began = time.perf_counter()
        marketplace_rows.fill(servers.url(DATABASE), size)
        servers.settle(DATABASE)
        say(f"  {size.ads:,} ads and {size.views:,} views inserted in {time.perf_counter() - began:.0f} s")
        yield DATABASE


def more_views(servers: Servers) -> None:
    with psycopg.connect(servers.url(DATABASE)) as connection:
        connection.execute(MORE_VIEWS.encode(), {"count": NEW_VIEWS})


def _grown(servers: Servers) -> Sample:
    more_views(servers)
    return _ours(servers, warm=True)


def _ours(servers: Servers, *, warm: bool = False) -> Sample:
    done = _run(servers, warm=warm)
    _, figures = _counted(servers)
    if (found := {name: done.statistics.get(name) for name in figures}) != figures:
        raise WorkNotDone(f"quick_stats says {found}, should be {figures}")
    return done.sample


def _run(servers: Servers, *, warm: bool = False) -> jobs.Run:
    return jobs.measure(QuickStats(), servers.environment(DATABASE_URL=servers.url(DATABASE)), warm=warm)


def _until_exact(servers: Servers) -> list[Sample]:
    """Run hourly until the figures equal the counts again."""
    _, figures = _counted(servers)
    samples = []
    for _ in range(HOURS):
        servers.ask(AN_HOUR_LATER, DATABASE)
        done = _run(servers)
        samples.append(done.sample)
        if all(done.statistics[name] == count for name, count in figures.items()):
            return samples
    raise WorkNotDone(f"deleted views are still counted after {HOURS} hourly runs")


def _counted(servers: Servers) -> tuple[Sample, dict[str, int]]:
    return asked(servers, "bench.peers.counts")


def asked(servers: Servers, peer: str) -> tuple[Sample, Any]:
    """Return how long a peer's statements took, and its figures."""
    environment = servers.environment(DATABASE_URL=servers.url(DATABASE))
    done = programs.run(programs.module(peer, ZONE), environment)
    found = json.loads(done.output)
    return Sample(found["seconds"], peak=done.peak, wall=done.seconds), found["figures"]


def _delete_an_ad(servers: Servers) -> int:
    """Delete the ad with the most views; return how many it had."""
    with psycopg.connect(servers.url(DATABASE)) as connection:
        (ad,) = connection.execute(OF_AN_AD).fetchone() or (0,)
        views, _ = (connection.execute(statement.encode(), {"ad": ad}).rowcount for statement in DELETE)
    return views


def main(arguments: list[str], compare: Callable[[Servers, Say, Marketplace], Table]) -> None:
    """Run one comparison, with the numbers of ads and views that are given."""
    progress = Console(stderr=True, highlight=False)
    size = Marketplace(*map(int, arguments)) if arguments else FULL
    with started(progress.print) as servers:
        Console(width=160, highlight=False).print(compare(servers, progress.print, size))


if __name__ == "__main__":
    main(sys.argv[1:], compare)
