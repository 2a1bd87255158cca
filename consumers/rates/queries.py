"""SQL of currency rates and their update log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
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
# Writers take turns: two that find no row for a day would each insert one.
LOCK_RATES = sa.text("SELECT pg_advisory_xact_lock(hashtext('pocketwatch rates'))")
# The row of each quote: one of its date, or one that Django has fetched today, which its own task would overwrite.
# The latter comes first: were another row of the currency fetched today, Django's task would find two, and fail.
STORED = sa.text("""
    SELECT quote.currency, stored.id, stored.rate
    FROM unnest(CAST(:currencies AS varchar[]), CAST(:days AS date[])) AS quote (currency, day), LATERAL (
        SELECT id, rate FROM currency_rates,
            LATERAL (SELECT (fetched_at AT TIME ZONE 'UTC')::date = :today) AS fetched (is_todays)
        WHERE base_currency = :base AND target_currency = quote.currency AND source = :source
            AND (rate_date = quote.day OR rate_date IS NULL AND is_active AND is_todays)
        ORDER BY is_todays DESC, rate_date, fetched_at DESC, id DESC LIMIT 1 FOR NO KEY UPDATE OF currency_rates
    ) AS stored
""")
# Like a save of Django's, a confirmation moves `updated_at` too. A slower writer's time must not move either back.
RENEWED = {
    "rate_date": sa.bindparam("day"),
    "fetched_at": sa.func.greatest(currency_rates.c.fetched_at, sa.bindparam("now")),
    "updated_at": sa.func.greatest(currency_rates.c.updated_at, sa.bindparam("now")),
}
FORMER = sa.func.jsonb_build_object(
    "former",
    sa.func.jsonb_build_object(
        "rate", sa.cast(currency_rates.c.rate, sa.Text), "fetched_at", currency_rates.c.fetched_at
    ),
)
CONFIRM = sa.update(currency_rates).where(currency_rates.c.id == sa.bindparam("row")).values(RENEWED)
CORRECT = CONFIRM.values(
    rate=sa.bindparam("quoted"), raw_data=sa.cast(sa.bindparam("answer", type_=JSONB), JSONB).concat(FORMER)
)

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
    return {row.target_currency: max(now - rate_end(row.rate_date, row.fetched_at), timedelta(0)) for row in rows}


def rate_end(day: date | None, fetched_at: datetime) -> datetime:
    return fetched_at if day is None else datetime.combine(day + timedelta(days=1), time(), tzinfo=KYIV)


@dataclass(frozen=True, slots=True)
class StoredRate:
    """What storing a quote did, and the rate that it replaced."""

    action: Literal["created", "updated", "unchanged"]
    former: str | None = None


async def store(
    session: AsyncSession, source: Source, quotes: Sequence[Quote], *, now: datetime
) -> dict[str, StoredRate]:
    """Insert the rates, correct those of the same day that differ, and confirm the others, which makes them fresh.

    A corrected row keeps the previous rate in `raw_data`; earlier ones are in the update log.
    """
    await session.execute(LOCK_RATES)
    stored = await _stored(session, source, quotes, now)
    created, corrected, confirmed = [], [], []
    outcomes: dict[str, StoredRate] = {}
    for quote in quotes:
        if (row := stored.get(quote.currency)) is None:
            outcomes[quote.currency] = StoredRate("created")
            created.append(_row(source, quote, now))
            continue
        renewed = {"row": row.id, "day": quote.rate_date, "now": now}
        if row.rate == quote.rate:
            outcomes[quote.currency] = StoredRate("unchanged")
            confirmed.append(renewed)
        else:
            outcomes[quote.currency] = StoredRate("updated", str(row.rate))
            corrected.append(renewed | {"quoted": quote.rate, "answer": _raw(quote)})
    for statement, rows in ((sa.insert(currency_rates), created), (CORRECT, corrected), (CONFIRM, confirmed)):
        if rows:
            await session.execute(statement, rows)
    return outcomes


async def _stored(
    session: AsyncSession, source: Source, quotes: Sequence[Quote], now: datetime
) -> dict[str, sa.Row[Any]]:
    values = {
        "base": BASE,
        "source": source,
        "currencies": [quote.currency for quote in quotes],
        "days": [quote.rate_date for quote in quotes],
        "today": now.astimezone(UTC).date(),
    }
    return {row.currency: row for row in await session.execute(STORED, values)}


def _row(source: Source, quote: Quote, now: datetime) -> dict[str, Any]:
    return {
        "base_currency": BASE,
        "target_currency": quote.currency,
        "rate": quote.rate,
        "source": source,
        "fetched_at": now,
        "is_active": True,
        "raw_data": _raw(quote),
        "created_at": now,
        "updated_at": now,
        "rate_date": quote.rate_date,
    }


def _raw(quote: Quote) -> dict[str, Any]:
    """Return the bank's row without a field that would pass for the previous rate."""
    return {name: value for name, value in quote.raw.items() if name != "former"}


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
