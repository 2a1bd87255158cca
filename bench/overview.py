"""The overview of the marketplace: `analytics.platform`, from message to run log, against plain queries.

    python -m bench platform                     a million ads, ten million views
    python -m bench.overview 100000 1000000      other numbers

Both read the same database; before each run of the job some views are inserted.
"""

import sys
from typing import Any

import psycopg
from psycopg.rows import dict_row
from rich.table import Table

from bench import jobs, memory, table
from bench.analytics import DATABASE, FULL, MOST, QUICK, ROUNDS, asked, filled, main, more_views
from bench.marketplace_rows import Marketplace
from bench.rounds import Contender, Sample, alternate
from bench.servers import Say, Servers, WorkNotDone
from schemas.ticks import PlatformAnalytics

A_KOPIYKA = 0.0101
TARGET = 5  # times as fast as plain queries
NEWEST = (
    "SELECT locale, payload FROM analytics_snapshots "
    "WHERE kind = 'platform' AND period = (SELECT max(period) FROM analytics_snapshots WHERE kind = 'platform')"
)
OURS = (
    "in a warm consumer: roll-up of new views, all figures of one snapshot, in three languages: three rows, "
    "Redis keys and events; s: its run-log row"
)
THEIRS = "a statement per figure, on one connection; s: the statements alone"


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    return compare(servers, say, QUICK if quick else FULL, rounds=2 if quick else ROUNDS)


def compare(servers: Servers, say: Say, size: Marketplace, *, rounds: int = ROUNDS) -> Table:
    """Roll up first, then alternate with the plain queries."""
    with filled(servers, say, size):
        first = _ours(servers, warm=False)
        say(f"  the first run, which rolls everything up: {first.seconds:.2f} s")
        contenders = (
            Contender("Pocketwatch analytics.platform", OURS, lambda: _grown(servers), ours=True),
            Contender("plain queries", THEIRS, lambda: _asked(servers)[0]),
        )
        results = alternate(contenders, rounds=rounds, warm_up=True, say=say)
    peak = max(sample.peak for sample in (first, *results[0].samples))
    verdict = "met" if peak <= MOST else "MISSED"
    return table.compare(
        f"analytics: platform with {size.ads:,} ads, {size.users:,} users and {size.views:,} views",
        results,
        caption=[
            f"first run, which rolls everything up: {first.seconds:.2f} s",
            f"target: at most {MOST // memory.MB} MB: {verdict} ({peak / memory.MB:.0f})",
            f"figures equal in every run; {servers.versions()}",
        ],
        target=TARGET,
    )


def _grown(servers: Servers) -> Sample:
    more_views(servers)
    return _ours(servers, warm=True)


def _ours(servers: Servers, *, warm: bool) -> Sample:
    done = jobs.measure(PlatformAnalytics(), servers.environment(DATABASE_URL=servers.url(DATABASE)), warm=warm)
    _, expected = _asked(servers)
    snapshots = _snapshots(servers)
    if set(snapshots) != {"uk", "en", "ru"}:
        raise WorkNotDone(f"there are snapshots for {', '.join(snapshots)}")
    for locale, payload in snapshots.items():
        found = _plain(payload)
        if wrong := [name for name in expected if not _are_equal(found[name], expected[name])]:
            pair = f"{found[wrong[0]]}, should be {expected[wrong[0]]}"
            raise WorkNotDone(f"platform ({locale}) differs in {', '.join(wrong)}: {pair:.500}")
    return done.sample


def _are_equal(one: Any, other: Any) -> bool:
    """Prices may differ by a kopiyka, as one multiplies before and one after the rounding to binary fractions."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_are_equal, one, other))
    if isinstance(one, float):
        return abs(one - other) < A_KOPIYKA
    return bool(one == other)


def _asked(servers: Servers) -> tuple[Sample, dict[str, Any]]:
    return asked(servers, "bench.peers.overview")


def _snapshots(servers: Servers) -> dict[str, dict[str, Any]]:
    with psycopg.connect(servers.url(DATABASE), row_factory=dict_row) as connection:
        return {row["locale"]: row["payload"] for row in connection.execute(NEWEST)}


def _plain(payload: dict[str, Any]) -> dict[str, Any]:
    """The figures of a snapshot, by the names and in the form of `bench.peers.overview`."""
    lately = payload["lately"]
    return {
        "overview": _values(payload["overview"]),
        "ads_by_status": _named(payload["ads_by_status"]),
        "top_makes": [[row["make_id"], row["make"], row["ads"]] for row in payload["top_makes"]],
        "regions": [[row["region_id"], row["region"], row["ads"]] for row in payload["regions"]],
        "prices": [[row["make_id"], row["make"], row["ads"], row["quartiles"]] for row in payload["prices"]],
        "lately": lately["ads"]["value"],
        "lately_by_day": {row["day"]: row["ads"] for row in lately["by_day"] if row["ads"]},
        "lately_by_status": _named(lately["by_status"]),
        "lately_by_seller": _named(lately["by_seller_type"]),
        "lately_by_all": [
            {name: row[name] for name in ("day", "status", "seller_type", "ads")}
            for row in lately["by_day_status_seller"]
        ],
        "views": lately["views"]["value"],
        "views_by_day": {row["day"]: row["views"] for row in lately["views_by_day"] if row["views"]},
        "views_per_ad": _values(payload["views_per_ad"]),
        "funnel": _values(payload["funnel"]),
    }


def _values(figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: figure["value"] for name, figure in figures.items()}


def _named(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["name"]: row["value"] for row in rows}


if __name__ == "__main__":
    main(sys.argv[1:], compare)
