"""Expired JWT refresh tokens: once a day, tokens whose `exp` is past by more than the retention go.

Find them by reading each token; delete their blacklisted rows; delete the outstanding rows. The column `expires_at` is
not trusted where the token itself can be read, and signatures are not verified, because keys rotate.
"""

import asyncio
import math
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from pydantic_core import from_json

from consumers.cleanup.pipeline import overlapped
from consumers.cleanup.tokens import queries
from pocketwatch.worker.clock_skew import check_clock_skew
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.ticks import CleanTokens

PAGE = 2500  # tokens that are read at a time, and deleted in one short transaction
DELETES_AT_ONCE = 2  # most of a delete's time is the database's check of its foreign key, at commit
SLICE = 250  # tokens that are decoded before others have their turn


@consumer
async def clean_tokens(tick: CleanTokens, job: JobContext) -> None:
    """Nothing that still protects goes: only tokens that expired more than `retention_days` days ago."""
    check_clock_skew(job)
    done = Counter(dict.fromkeys(STATISTICS, 0))
    async with job.transaction() as connection:
        last = await queries.last_token_id(connection)
    position, limited = tick.after_id, False
    pages = read_pages(job, tick, until=last)
    async for page, deleted in overlapped(pages, lambda page: delete(job, page.expired, tick), at_once=DELETES_AT_ONCE):
        done.update(page.statistics)
        done.update(deleted)
        position, limited = page.last_id, page.limited
        await job.progress(position / last, **done)
    job.record(**done)
    if limited or (position < last and left(tick, done) == 0):
        job.mark_partial(f"stopped at its limit of {tick.max_deleted} tokens (max_deleted); the next run goes on")
    elif position < last:
        job.continue_with(tick.model_copy(update={"after_id": position, "max_deleted": left(tick, done)}))


STATISTICS = ("scanned", "outstanding_deleted", "blacklisted_deleted", "kept_within_margin", "unreadable")


@dataclass(frozen=True, slots=True)
class Page:
    """What was found among some tokens: the ids of those that may go, and counts of the others."""

    last_id: int
    expired: list[int]
    limited: bool  # more may go than this run is allowed to delete
    statistics: dict[str, int]


async def read_pages(job: JobContext, tick: CleanTokens, *, until: int) -> AsyncIterator[Page]:
    """Read the table by id and sort the tokens of each page; stops early when the time is up or enough are found."""
    position, room = tick.after_id, tick.max_deleted
    while position < until and not (position > tick.after_id and job.should_stop()):
        async with job.transaction() as connection:
            tokens = await queries.tokens_after(connection, position, until=until, limit=PAGE)
            expiries = await read_tokens(tokens)
            unreadable = [token_id for token_id, expiry in expiries.items() if expiry is None]
            columns = await queries.expiry_columns(connection, unreadable) if unreadable else {}
        if not tokens:
            return
        page = sort(expiries, columns, now=job.now, margin=timedelta(days=tick.retention_days), room=room)
        yield page
        if page.limited:
            return
        position, room = page.last_id, None if room is None else room - len(page.expired)


def sort(
    expiries: dict[int, float | None], columns: dict[int, float], *, now: datetime, margin: timedelta, room: int | None
) -> Page:
    """Which of these tokens may go: those that expired before the margin, by what they say or else by their column."""
    present, cutoff = now.timestamp(), (now - margin).timestamp()
    known = {
        token_id: columns.get(token_id, present) if expiry is None else expiry for token_id, expiry in expiries.items()
    }
    expired = [token_id for token_id, expiry in known.items() if expiry < cutoff]
    return Page(
        last_id=max(expiries),
        expired=expired[:room],
        limited=room is not None and len(expired) > room,
        statistics={
            "scanned": len(expiries),
            "kept_within_margin": sum(expiry < present for expiry in known.values()) - len(expired),
            "unreadable": sum(expiry is None for expiry in expiries.values()),
        },
    )


async def read_tokens(tokens: Sequence[sa.Row[int, str]]) -> dict[int, float | None]:
    """The expiry of each token, read in slices, so that the deletes under way get their turns between them."""
    expiries: dict[int, float | None] = {}
    for start in range(0, len(tokens), SLICE):
        expiries.update((token_id, expiry_of(token)) for token_id, token in tokens[start : start + SLICE])
        await asyncio.sleep(0)
    return expiries


async def delete(job: JobContext, ids: list[int], tick: CleanTokens) -> dict[str, int]:
    """Delete these tokens in one short transaction; a dry run counts the same and changes nothing."""
    if not ids:
        return {}
    remove = queries.count_tokens if tick.dry_run else queries.delete_tokens
    async with job.transaction() as connection:
        gone = await remove(connection, ids)
    return {"outstanding_deleted": gone.outstanding, "blacklisted_deleted": gone.blacklisted}


def left(tick: CleanTokens, done: Counter[str]) -> int | None:
    """How many tokens the run that goes on may still delete."""
    return None if tick.max_deleted is None else tick.max_deleted - done["outstanding_deleted"]


def expiry_of(token: str) -> float | None:
    """When a token stops being of use, in seconds since the epoch; None when it cannot be read or does not say.

    `exp` must be a JSON number. Huge values, milliseconds among them, are compared as numbers, which keeps the token. A
    sliding token is of use until the later of `exp` and `refresh_exp`.
    """
    try:
        _, payload, _ = token.split(".")
        claims = from_json(urlsafe_b64decode(payload + "=="), allow_inf_nan=False)
        expiry = claims["exp"]
        refresh_expiry = claims.get("refresh_exp", expiry)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return max(expiry, refresh_expiry) if is_moment(expiry) and is_moment(refresh_expiry) else None


def is_moment(value: object) -> bool:
    """A number that JSON can hold; `true`, which Python counts among them, is none."""
    return type(value) is int or (type(value) is float and math.isfinite(value))
