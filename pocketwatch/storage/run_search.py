"""Search the run log: filtered and page by page, at a cost that does not grow with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.run_log import IS_ABANDONED, Row
from pocketwatch.storage.tables.suite import update_logs

MAX_SCANNED = 10_000  # rows that one search looks at
MAX_NAMED = 10_000  # rows of a message or a chain, whose ids are collected before they are put into order
# `started_at` ascends with the id, but for the length of a transaction, and for runs that waited and began again.
LATE, WAITED = timedelta(minutes=1), timedelta(hours=3)
NEIGHBOURS = 20  # consecutive rows, of which one at least began when it was inserted
LAST_CHARACTER = "\U0010ffff"
INTEGERS = sa.ARRAY(sa.BigInteger)

Condition = Callable[[Any], sa.ColumnElement[bool]]  # of the columns of `update_logs`, or of a part of its rows

LISTED = sa.select(
    *(column for column in update_logs.c if column.name not in ("payload", "traceback")),
    IS_ABANDONED.label("abandoned"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs are shown; all when nothing is given.

    Args:
        since, until: of `started_at`; the second is excluded.
        message_id: the beginning of the message's id.
        error: a part of the error, in any case.
        text: a part of the error, the message's id or its arguments, in any case.
        correlation_id: runs of the chain that this message began.
        before_id: the `next_before_id` of the page before.
    """

    job: str | None = None
    entry: str | None = None
    status: str | None = None
    trigger: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    message_id: str | None = None
    error: str | None = None
    text: str | None = None
    correlation_id: str | None = None
    before_id: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class RunPage:
    """A page of runs.

    Args:
        rows: newest first, by column name, with `abandoned`; without `payload` and `traceback`: see `run_log.by_id`.
        next_before_id: the `before_id` of the next page; None at the end.
        is_bounded: whether the search ended at its bound: the next page may hold more, although this one is not full.
    """

    rows: list[Row]
    next_before_id: int | None = None
    is_bounded: bool = False


async def find(connection: AsyncConnection, which: RunFilter) -> RunPage:
    """Return a page of the runs that match, newest first.

    A search looks at 10,000 rows at most: those that meet the rarest condition that has an index. Where it ends before
    the page is full, the next page goes on from there.
    """
    indexed, others = _indexed(which), _others(which)
    window = await _window(connection, which)
    ids, unnamed = await _named(connection, which)
    if ids is not None:
        named = update_logs.c.id == sa.any_(sa.literal(ids, INTEGERS))
        filters = [*indexed.values(), *others, *unnamed]
        query = sa.select(update_logs.c.id).where(named, *window, *(each(update_logs.c) for each in filters))
        return await _page(connection, query.order_by(update_logs.c.id.desc()), which, bound=None)
    leading = await _rarest(connection, which, list(indexed), window)
    filters = [*(each for name, each in indexed.items() if name != leading), *others, *unnamed]
    newest = newest_of(which, leading, window)
    scanned = newest.subquery()
    query = sa.select(scanned.c.id).where(*(each(scanned.c) for each in filters))
    query = query.order_by(*(scanned.c[name].desc() for name in (leading, "id") if name is not None))
    return await _page(connection, query, which, bound=newest if filters else None)


async def newest(connection: AsyncConnection, which: RunFilter) -> list[Row]:
    """Return as many of the runs that match as its limit says, newest first, however many are looked at for them."""
    rows: list[Row] = []
    before_id = which.before_id
    while True:
        size = min(which.limit - len(rows), MAX_SCANNED - 1)
        page = await find(connection, replace(which, limit=size, before_id=before_id))
        rows += page.rows
        before_id = page.next_before_id
        if before_id is None or len(rows) == which.limit:
            return rows


async def chain(connection: AsyncConnection, correlation_id: str, *, limit: int) -> list[Row]:
    """Return the runs of the message that began a chain, and of those that it has caused, oldest first."""
    page = await find(connection, RunFilter(correlation_id=correlation_id, limit=limit))
    return page.rows[::-1]


def newest_of(which: RunFilter, leading: str | None, window: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    """Return the latest rows with the value that is wanted of an indexed column, as many as a search may look at.

    The value is a range and leads the order, because with an equation the planner may read all rows backwards until it
    meets those with the value.
    """
    query = sa.select(update_logs).where(*window).limit(MAX_SCANNED)
    if leading is None:
        return query.order_by(update_logs.c.id.desc())
    column, value = update_logs.c[leading], getattr(which, leading)
    if leading == "status":
        query = query.where(column != "succeeded")  # as its index
    return query.where(column.between(value, value)).order_by(column.desc(), update_logs.c.id.desc())


async def _page(
    connection: AsyncConnection, query: sa.Select[Any], which: RunFilter, *, bound: sa.Select[Any] | None
) -> RunPage:
    """Return the page of the ids that `query` selects from the rows of `bound`."""
    ids = list((await connection.execute(query.limit(which.limit + 1))).scalars())
    rows = await _rows(connection, ids[: which.limit])
    if len(ids) > which.limit:
        return RunPage(rows, next_before_id=ids[which.limit - 1])
    if bound is not None:
        scanned = bound.with_only_columns(update_logs.c.id).subquery()
        count, last = (await connection.execute(sa.select(sa.func.count(), sa.func.min(scanned.c.id)))).one()
        if count == MAX_SCANNED:
            return RunPage(rows, next_before_id=last, is_bounded=True)
    return RunPage(rows)


async def _rows(connection: AsyncConnection, ids: Sequence[int]) -> list[Row]:
    query = LISTED.where(update_logs.c.id == sa.any_(sa.literal(ids, INTEGERS))).order_by(update_logs.c.id.desc())
    return [dict(row) for row in (await connection.execute(query)).mappings()]


def _indexed(which: RunFilter) -> dict[str, Condition]:
    """Return the conditions, by column, whose rows an index returns by id."""
    found: dict[str, Condition] = {}
    if which.entry is not None:
        found["entry"] = lambda columns: columns.entry == which.entry
    if which.status not in (None, "succeeded"):
        found["status"] = lambda columns: columns.status == which.status
    if which.job is not None:
        found["job"] = lambda columns: columns.job == which.job
    return found


def _others(which: RunFilter) -> list[Condition]:
    found: list[Condition] = []
    if which.status == "succeeded":
        found.append(lambda columns: columns.status == "succeeded")
    if which.trigger is not None:
        found.append(lambda columns: columns.trigger == which.trigger)
    if which.since is not None:
        found.append(lambda columns: columns.started_at >= which.since)
    if which.until is not None:
        found.append(lambda columns: columns.started_at < which.until)
    if (error := which.error) is not None:
        found.append(lambda columns: columns.error.icontains(error, autoescape=True))
    if (text := which.text) is not None:
        found.append(
            lambda columns: sa.or_(
                columns.error.icontains(text, autoescape=True),
                columns.message_id.icontains(text, autoescape=True),
                sa.cast(columns.payload, sa.Text).icontains(text, autoescape=True),
            )
        )
    return found


def _begins_with(prefix: str) -> Condition:
    """Not LIKE: its pattern is a parameter, for which a plan that is used again would not take the index."""
    return lambda columns: sa.and_(
        columns.message_id.op("~>=~")(prefix), columns.message_id.op("~<~")(prefix + LAST_CHARACTER)
    )


def _in_chain(correlation_id: str) -> Condition:
    return lambda columns: sa.or_(columns.correlation_id == correlation_id, columns.message_id == correlation_id)


def _caused_by(correlation_id: str) -> Condition:
    return lambda columns: sa.and_(
        columns.correlation_id == correlation_id, columns.correlation_id != columns.message_id
    )


async def _named(connection: AsyncConnection, which: RunFilter) -> tuple[list[int] | None, list[Condition]]:
    """Return the ids of the rows of a message or a chain, or the conditions when these are too many."""
    wanted: list[tuple[Condition, list[Condition]]] = []
    if (prefix := which.message_id) is not None:
        wanted.append((_begins_with(prefix), [_begins_with(prefix)]))
    if (first := which.correlation_id) is not None:
        wanted.append((_in_chain(first), [_caused_by(first), lambda columns: columns.message_id == first]))
    ids: set[int] | None = None
    conditions: list[Condition] = []
    for condition, parts in wanted:
        found = set[int]()
        for part in parts:
            query = sa.select(update_logs.c.id).where(part(update_logs.c)).limit(MAX_NAMED + 1)
            found |= set((await connection.execute(query)).scalars())
        if len(found) > MAX_NAMED:
            conditions.append(condition)
        else:
            ids = found if ids is None else ids & found
    return None if ids is None else sorted(ids), conditions


async def _rarest(
    connection: AsyncConnection, which: RunFilter, names: Sequence[str], window: Sequence[sa.ColumnElement[bool]]
) -> str | None:
    """Return the column whose value the fewest rows have, counted up to the bound of a search."""
    if len(names) < 2:  # noqa: PLR2004
        return names[0] if names else None
    rarest, fewest = names[0], MAX_SCANNED
    for name in names:
        rows = newest_of(which, name, window).with_only_columns(update_logs.c.id).limit(fewest).subquery()
        count = (await connection.execute(sa.select(sa.func.count()).select_from(rows))).scalar_one()
        if count < fewest:
            rarest, fewest = name, count
    return rarest


async def _window(connection: AsyncConnection, which: RunFilter) -> list[sa.ColumnElement[bool]]:
    """Return the bounds of the ids: what began outside the times is not looked at."""
    column = update_logs.c.id
    bounds: list[sa.ColumnElement[bool]] = []
    if which.before_id is not None:
        bounds.append(column < which.before_id)
    if which.since is not None:
        bounds.append(column >= await _id_at(connection, which.since - WAITED))
    if which.until is not None:
        bounds.append(column < await _id_at(connection, which.until + LATE))
    return bounds


async def _id_at(connection: AsyncConnection, moment: datetime) -> int:
    """Return the id from which on rows began after this moment, by bisection."""
    ends = await connection.execute(sa.select(sa.func.min(update_logs.c.id), sa.func.max(update_logs.c.id)))
    low, high = ends.one()
    if low is None:
        return 0
    high += 1
    while low < high:
        middle = (low + high) // 2
        rows = sa.select(update_logs.c.started_at).where(update_logs.c.id >= middle)
        neighbours = rows.order_by(update_logs.c.id).limit(NEIGHBOURS).subquery()
        began = (await connection.execute(sa.select(sa.func.min(neighbours.c.started_at)))).scalar_one()
        if began is None or began >= moment:
            high = middle
        else:
            low = middle + 1
    return int(low)
