"""SQL of currency rates and their update log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from consumers.rates.banks import BASE, KYIV, Quote, Source
from pocketwatch.storage.tables.suite import currency_rates, currency_update_logs
from pocketwatch.worker.paged_job import PagedDelete

Connection = AsyncConnection | AsyncSession

# Rows written by Django have no date; the date of the fetch comes closest.
DAY = "coalesce(rate_date, (fetched_at AT TIME ZONE 'UTC')::date)"

LAST = sa.text(f"""
    SELECT DISTINCT ON (target_currency) target_currency, rate, source, {DAY} AS day
    FROM currency_rates
    WHERE base_currency = :base AND target_currency = ANY(:currencies) AND is_active AND rate > 0
    ORDER BY target_currency, source = :source DESC, {DAY} DESC, fetched_at DESC, id DESC
""")
NEWEST = sa.text(f"""
    SELECT DISTINCT ON (target_currency) target_currency, rate_date, fetched_at
    FROM currency_rates
    WHERE base_currency = :base AND target_currency = ANY(:currencies) AND is_active
    ORDER BY target_currency, {DAY} DESC, fetched_at DESC, id DESC
""")
KEY = ("base_currency", "target_currency", "source", "rate_date")

# The maximum of an array avoids the sort of DISTINCT ON: half the time for a million rows.
# An inactive rate, which an operator disabled, never replaces an active one.
NEWEST_OF_EACH = sa.text(f"""
    WITH newest AS (
        SELECT base_currency, target_currency, source, is_active, max(ARRAY[
            ({DAY} - date '2000-01-01')::float8, extract(epoch FROM fetched_at)::float8, id::float8
        ]) AS place
        FROM currency_rates GROUP BY base_currency, target_currency, source, is_active
    )
    SELECT place[3]::bigint FROM newest WHERE is_active OR NOT EXISTS (
        SELECT FROM newest active
        WHERE active.is_active AND active.base_currency = newest.base_currency
            AND active.target_currency = newest.target_currency AND active.source = newest.source
            AND active.place > newest.place
    )
""")
OLD_RATE = "fetched_at < :before AND (rate_date IS NULL OR rate_date < :before_day)"
FAILURE_LOGGED = sa.text("""
    SELECT EXISTS (
        SELECT FROM currency_update_logs
        WHERE source = :source AND status = 'FAILED' AND error_details ->> 'message_id' = :message_id
            AND (error_details ->> 'attempt')::int = :attempt
    )
""")
# A concurrent transaction that logs the same attempt waits, and then finds the row.
LOCK_ATTEMPT = sa.text("SELECT pg_advisory_xact_lock(hashtext('pocketwatch rates'), hashtext(:message_id))")


@dataclass(frozen=True, slots=True)
class LastRate:
    """The last stored rate of a currency: of this source or, without one, of any."""

    rate: Decimal
    source: str
    day: date


async def last_rates(connection: Connection, source: Source, currencies: Sequence[str]) -> dict[str, LastRate]:
    rows = await connection.execute(LAST, {"base": BASE, "currencies": list(currencies), "source": source})
    return {row.target_currency: LastRate(row.rate, row.source, row.day) for row in rows}


async def staleness(connection: Connection, currencies: Sequence[str], *, now: datetime) -> dict[str, timedelta]:
    """Return how long ago each currency's newest active rate, of any source, ended; omit currencies without one.

    A rate ends with its day in Kyiv; one written by Django, which has no date, when it was fetched.
    """
    rows = await connection.execute(NEWEST, {"base": BASE, "currencies": list(currencies)})
    return {row.target_currency: max(now - _end(row.rate_date, row.fetched_at), timedelta(0)) for row in rows}


def _end(day: date | None, fetched_at: datetime) -> datetime:
    return fetched_at if day is None else datetime.combine(day + timedelta(days=1), time(), tzinfo=KYIV)


@dataclass(frozen=True, slots=True)
class StoredRate:
    """What storing a quote did, and the rate that it replaced."""

    action: Literal["created", "updated", "unchanged"]
    former: str | None = None


async def store(
    session: AsyncSession, source: Source, quotes: Sequence[Quote], *, now: datetime
) -> dict[str, StoredRate]:
    """Insert the rates, or correct those of the same day that differ.

    A corrected row keeps the previous rate in `raw_data`; earlier ones are in the update log.
    """
    rows = [_row(source, quote, now) for quote in sorted(quotes, key=lambda quote: quote.currency)]
    statement = insert(currency_rates).values(rows)
    new, old = statement.excluded, currency_rates.c
    former = sa.func.jsonb_build_object(
        "former", sa.func.jsonb_build_object("rate", sa.cast(old.rate, sa.Text), "fetched_at", old.fetched_at)
    )
    changes = {
        "rate": new.rate,
        "raw_data": new.raw_data.concat(former),
        "fetched_at": new.fetched_at,
        "updated_at": new.updated_at,
    }
    result = await session.execute(
        statement.on_conflict_do_update(
            index_elements=KEY, index_where=old.rate_date.is_not(None), set_=changes, where=old.rate != new.rate
        ).returning(old.target_currency, old.raw_data["former"]["rate"].astext.label("former"))
    )
    written = {row.target_currency: StoredRate("updated" if row.former else "created", row.former) for row in result}
    return {quote.currency: written.get(quote.currency, StoredRate("unchanged")) for quote in quotes}


def _row(source: Source, quote: Quote, now: datetime) -> dict[str, Any]:
    return {
        "base_currency": BASE,
        "target_currency": quote.currency,
        "rate": quote.rate,
        "source": source,
        "fetched_at": now,
        "is_active": True,
        # A bank's field of this name must not pass for the previous rate.
        "raw_data": {name: value for name, value in quote.raw.items() if name != "former"},
        "created_at": now,
        "updated_at": now,
        "rate_date": quote.rate_date,
    }


async def log_failures(
    connection: AsyncConnection, rows: Sequence[dict[str, Any]], *, message_id: str, attempt: int
) -> None:
    """Insert a failed attempt's rows of the update log, once per attempt however often it is delivered."""
    await connection.execute(LOCK_ATTEMPT, {"message_id": message_id})
    for row in rows:
        key = {"source": row["source"], "message_id": message_id, "attempt": attempt}
        if not (await connection.execute(FAILURE_LOGGED, key)).scalar_one():
            await connection.execute(sa.insert(currency_update_logs).values(row))


async def newest_rate_ids(connection: AsyncConnection) -> list[int]:
    """Return the newest rate of each base, target and source, which is kept however old it is."""
    return list((await connection.execute(NEWEST_OF_EACH)).scalars())


def old_rates(cutoff: datetime, *, keep: Sequence[int]) -> PagedDelete:
    day = cutoff.astimezone(KYIV).date()
    return _by_id(
        currency_rates,
        OLD_RATE,
        keep="id = ANY(:keep)",
        kept="rates_kept_as_newest",
        parameters={"before": cutoff, "before_day": day, "keep": list(keep)},
    )


def old_update_logs(cutoff: datetime) -> PagedDelete:
    return _by_id(currency_update_logs, "started_at < :before", parameters={"before": cutoff})


def _by_id(
    table: sa.Table, old: str, *, keep: str = "false", kept: str | None = None, parameters: Mapping[str, Any]
) -> PagedDelete:
    page = f"""
        WITH page AS (
            SELECT id, {old} AS old, {keep} AS keep FROM {table.name} WHERE id > :after ORDER BY id LIMIT :size
        )"""
    # The condition is repeated: a row may have been renewed since the page was read.
    deleted = f"""{page}, deleted AS (
            DELETE FROM {table.name} WHERE id > :after AND id <= (SELECT max(id) FROM page) AND {old} AND NOT {keep}
            RETURNING id
        )"""
    result = f"""
        SELECT CASE WHEN count(*) = :size THEN max(id) END AS next,
            max(id)::float8 / (SELECT max(id) FROM {table.name}) AS share, count(*) AS scanned,
            {f"count(*) FILTER (WHERE old AND keep) AS {kept}," if kept else ""}
            {{deleted}} AS deleted
        FROM page"""
    return PagedDelete(
        table=table.name,
        count=sa.text(page + result.format(deleted="count(*) FILTER (WHERE old AND NOT keep)")),
        delete=sa.text(deleted + result.format(deleted="(SELECT count(*) FROM deleted)")),
        parameters=parameters,
    )
