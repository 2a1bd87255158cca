"""Delete expired JWT refresh tokens: those whose `exp` is past by more than the retention.

The token itself is read. Its column `expires_at` decides only where it cannot be read, and signatures are not verified,
because keys rotate.
"""

import asyncio
import math
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa
from pydantic_core import from_json
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.cleanup.pipeline import pipelined
from consumers.cleanup.tokens import queries
from pocketwatch.errors import RetryLater
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from pocketwatch.worker.paged_job import met_limit, retry_when_busy
from schemas.ticks import CleanTokens

PAGE = 2500  # tokens that are read at a time, and deleted in one short transaction
MAX_DELETES = 2  # at a time; most of a delete's time is the database's check of its foreign key, at commit
SLICE = 250  # tokens that are decoded before other tasks get their turn

NO_TABLE = (
    "table token_blacklist_outstandingtoken: does not exist, so no token is stored; if the site stores them, add "
    "rest_framework_simplejwt.token_blacklist to its INSTALLED_APPS and migrate it, or set DATABASE_URL to its database"
)
STATISTICS = ("scanned", "outstanding_deleted", "blacklisted_deleted", "kept_within_margin", "unreadable")


@consumer
async def clean_tokens(tick: CleanTokens, job: JobContext) -> None:
    job.start(*STATISTICS)
    page: TokenPage | None = None
    try:
        with retry_when_busy("token_blacklist_outstandingtoken"):
            async with job.page() as connection:
                if not await queries.table_exists(connection):
                    return job.mark_skipped(NO_TABLE)
                last = await queries.last_token_id(connection)
            pages = read_pages(job, tick, until=last)
            async for page, _ in pipelined(pages, lambda page: delete(job, page.expired), at_once=MAX_DELETES):
                job.count(**page.statistics)
                await job.progress(page.last_id / last if last else 1.0)
    except (RetryLater, DBAPIError) as error:
        if not met_limit(error) or page is None:
            raise
    assert page is not None, "there is at least one page"  # noqa: S101
    left = None if tick.max_deleted is None else tick.max_deleted - job.statistics["outstanding_deleted"]
    if page.limited or (page.next is not None and left == 0):
        job.mark_partial(f"max_deleted {tick.max_deleted}: limit reached; the next run continues")
    elif page.next is not None:
        job.continue_with(tick.model_copy(update={"after_id": page.next, "max_deleted": left}))
    return None


@dataclass(frozen=True, slots=True)
class TokenPage:
    """What was found among some tokens.

    Args:
        expired: the ids of those to delete.
        limited: more are expired than this run may delete.
        next: where the next page begins, None at the end.
    """

    last_id: int
    expired: list[int]
    limited: bool
    statistics: dict[str, int]
    next: int | None = None


def read_pages(job: JobContext, tick: CleanTokens, *, until: int) -> AsyncIterator[TokenPage]:
    room, margin = tick.max_deleted, timedelta(days=tick.retention_days)

    async def read_page(connection: AsyncConnection, after: int) -> TokenPage:
        nonlocal room
        tokens = await queries.tokens_after(connection, after, until=until, limit=PAGE)
        expiries = await read_tokens(tokens)
        unreadable = [token_id for token_id, expiry in expiries.items() if expiry is None]
        columns = await queries.expiry_columns(connection, unreadable) if unreadable else {}
        page = find_expired(expiries, columns, now=job.now, margin=margin, room=room)
        room = None if room is None else room - len(page.expired)
        return page if page.limited or page.last_id >= until or not tokens else replace(page, next=page.last_id)

    return job.pages(read_page, after=tick.after_id)


def find_expired(
    expiries: dict[int, float | None], columns: dict[int, float], *, now: datetime, margin: timedelta, room: int | None
) -> TokenPage:
    """Select the tokens that expired before the margin, by what they say or else by their column."""
    present, cutoff = now.timestamp(), (now - margin).timestamp()
    known = {
        token_id: columns.get(token_id, present) if expiry is None else expiry for token_id, expiry in expiries.items()
    }
    expired = [token_id for token_id, expiry in known.items() if expiry < cutoff]
    return TokenPage(
        last_id=max(expiries, default=0),
        expired=expired[:room],
        limited=room is not None and len(expired) > room,
        statistics={
            "scanned": len(expiries),
            "kept_within_margin": sum(expiry < present for expiry in known.values()) - len(expired),
            "unreadable": sum(expiry is None for expiry in expiries.values()),
        },
    )


async def read_tokens(tokens: Sequence[sa.Row[int, str]]) -> dict[int, float | None]:
    """Read the expiry of each token, in slices, so that deletes in progress get their turns between them."""
    expiries: dict[int, float | None] = {}
    for start in range(0, len(tokens), SLICE):
        expiries.update((token_id, expiry_of(token)) for token_id, token in tokens[start : start + SLICE])
        await asyncio.sleep(0)
    return expiries


async def delete(job: JobContext, ids: list[int]) -> None:
    if not ids:
        return
    async with job.page() as connection:
        counts = await queries.delete_tokens(connection, ids, dry_run=job.dry_run)
    job.count(**counts)


def expiry_of(token: str) -> float | None:
    """Return when a token expires, in seconds since the epoch; None when it cannot be read or does not say.

    `exp` must be a JSON number. Huge values, milliseconds among them, are compared as numbers, which keeps the token. A
    sliding token expires at the later of `exp` and `refresh_exp`.
    """
    try:
        _, payload, _ = token.split(".")
        claims = from_json(urlsafe_b64decode(payload + "=="), allow_inf_nan=False)
        expiry = claims["exp"]
        refresh_expiry = claims.get("refresh_exp", expiry)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return max(expiry, refresh_expiry) if is_number(expiry) and is_number(refresh_expiry) else None


def is_number(value: object) -> bool:
    """Whether JSON can hold this number; Python counts `true` among them."""
    return type(value) is int or (type(value) is float and math.isfinite(value))
