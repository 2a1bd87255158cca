"""Expired refresh tokens: our `cleanup.tokens`, the whole way through, against simplejwt's `flushexpiredtokens`."""

import json

from rich.table import Table

from bench import jobs, jwt_rows, memory, programs, table
from bench.jwt_rows import Lot
from bench.rounds import Contender, Sample, alternate
from bench.servers import EMPTY, Say, Servers, WorkNotDone
from schemas.ticks import CleanTokens

TARGET = 2.5  # times as fast as flushexpiredtokens
MOST_ADDED = 15 * memory.MB
TEMPLATE = "bench_tokens"
LEFT = (
    "SELECT count(*), (SELECT count(*) FROM token_blacklist_blacklistedtoken), bool_and(expires_at > now()) "
    "FROM token_blacklist_outstandingtoken"
)


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """The comparison: each run on a copy of the same tables."""
    lot = Lot(20_000 if quick else 200_000)
    with servers.database(name=TEMPLATE):
        jwt_rows.fill(servers.url(TEMPLATE), lot)
        servers.settle(TEMPLATE)
        idle = _flush(servers, EMPTY)
        contenders = (
            Contender("Pocketwatch cleanup.tokens", OURS, lambda: _ours(servers, lot), ours=True),
            Contender("simplejwt flushexpiredtokens", THEIRS, lambda: _theirs(servers, lot, idle=idle.peak)),
        )
        results = alternate(contenders, rounds=2 if quick else 5, warm_up=True, say=say)
    return table.compare(
        f"tokens: {lot.expired:,} of {lot.total:,} refresh tokens are expired, one in four is blacklisted",
        results,
        caption=[f"{table.versions('djangorestframework-simplejwt', 'Django', 'psycopg')}; {servers.versions()}"],
        target=TARGET,
    )


OURS = "reads `exp` of each token; pages of 2,500, short transactions; s: its run-log row, wall: publish to finished"
THEIRS = "trusts `expires_at`; one transaction; s: the command itself, wall: with the start of Django; idle: no tokens"


def _ours(servers: Servers, lot: Lot) -> Sample:
    with servers.database(TEMPLATE) as database:
        done = jobs.measure(CleanTokens(), servers.environment(DATABASE_URL=servers.url(database)))
        _check(servers, database, lot)
    return done.sample


def _theirs(servers: Servers, lot: Lot, *, idle: int) -> Sample:
    with servers.database(TEMPLATE) as database:
        flushed = _flush(servers, database)
        _check(servers, database, lot)
    seconds = json.loads(flushed.output)["seconds"]
    return Sample(seconds, peak=flushed.peak, idle=idle, wall=flushed.seconds)


def _flush(servers: Servers, database: str) -> programs.Finished:
    environment = servers.environment(DATABASE_URL=servers.url(database))
    return programs.run(programs.module("demo.marketplace", "flush"), environment)


def _check(servers: Servers, database: str, lot: Lot) -> None:
    outstanding, blacklisted, alive = servers.ask(LEFT, database)
    if (outstanding, blacklisted) != lot.left or not alive:
        raise WorkNotDone(f"{outstanding} tokens and {blacklisted} blacklisted are left, should be {lot.left}")


def run_memory(servers: Servers, say: Say, *, quick: bool) -> Table:
    """The proof that ten times as many tokens take no more memory, and ten times as long."""
    lots = [Lot(20_000), Lot(200_000)] if quick else [Lot(200_000), Lot(2_000_000)]
    shown = table.blank("tokens-memory: Pocketwatch cleanup.tokens, a fresh consumer for each run")
    for column in ("tokens", "deleted", "s", "s per million", "idle MB", "peak MB", "added MB"):
        shown.add_column(column, justify="right")
    worst = 0
    for lot in lots:
        sample = _alone(servers, lot, say)
        idle = sample.idle or 0
        worst = max(worst, sample.peak - idle)
        sizes = (f"{idle / memory.MB:.1f}", f"{sample.peak / memory.MB:.1f}", f"{(sample.peak - idle) / memory.MB:.1f}")
        pace = sample.seconds / lot.total * 1_000_000
        shown.add_row(f"{lot.total:,}", f"{lot.expired:,}", table.shown(sample.seconds), table.shown(pace), *sizes)
    verdict = "met" if worst <= MOST_ADDED else "MISSED"
    shown.caption = (
        f"{servers.versions()}\n{table.machine()}\ntarget: adds at most {MOST_ADDED // memory.MB} MB: {verdict}"
    )
    return shown


def _alone(servers: Servers, lot: Lot, say: Say) -> Sample:
    with servers.database() as database:
        jwt_rows.fill(servers.url(database), lot)
        servers.settle(database)
        say(f"  {lot.total:,} tokens are there")
        done = jobs.measure(CleanTokens(), servers.environment(DATABASE_URL=servers.url(database)))
        _check(servers, database, lot)
    return done.sample
