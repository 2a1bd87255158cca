"""How far the roll-ups are, in a row that moves together with them; and what shows that rows were deleted."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.rollup.id_ranges import SEGMENT
from pocketwatch.storage.tables.suite import roll_up_state

# Whoever rolls up waits for the other; both work in short transactions.
ONE_AT_A_TIME = sa.text("SELECT pg_advisory_xact_lock(hashtext('pocketwatch roll-up'))")
# The file of the table, which TRUNCATE replaces, and PostgreSQL's own count of the rows that were deleted, with the
# moment since which it counts: somebody may have reset it, and a crash does. Where it does not count, anything may have
# been deleted.
DELETIONS = (
    "concat_ws(':', pg_relation_filenode('{table}'), pg_stat_get_tuples_deleted('{table}'::regclass), "
    "CASE WHEN current_setting('track_counts') = 'off' THEN clock_timestamp() END, since.reset, since.crash)"
)
SINCE = (
    "(SELECT pg_stat_get_db_stat_reset_time(oid) AS reset, pg_stat_get_bgwriter_stat_reset_time() AS crash "
    "FROM pg_database WHERE datname = current_database()) AS since"
)
MARKS = sa.text(
    f"SELECT {DELETIONS.format(table='ad_views')} AS views, "
    f"{DELETIONS.format(table='car_ads')} || ' ' || {DELETIONS.format(table='auth_user')} AS days "
    f"FROM {SINCE}"
)


@dataclass(frozen=True, slots=True)
class State:
    """See the columns of the table."""

    views_mark: str | None
    compare_from: int | None
    recheck_next: int
    days_mark: str | None
    recount_from: date | None


@dataclass(frozen=True, slots=True)
class Marks:
    """They differ from earlier ones when views, or ads or users, were deleted in between."""

    views: str
    days: str

    def is_of_other_file(self, views_mark: str | None) -> bool:
        """Since that earlier mark the views were emptied, or written anew: nothing that was known need be so."""
        return views_mark is not None and views_mark.partition(":")[0] != self.views.partition(":")[0]


async def alone(connection: AsyncConnection) -> None:
    """Let nobody else roll up until the end of this transaction."""
    await connection.execute(ONE_AT_A_TIME)


async def marks(connection: AsyncConnection) -> Marks:
    """Those of this moment."""
    row = (await connection.execute(MARKS)).one()
    return Marks(row.views, row.days)


async def load(connection: AsyncConnection, *, zone: str) -> State | None:
    """Where the roll-ups stand; None when there are none for this zone and size of segments."""
    table = roll_up_state.c
    row = (
        await connection.execute(
            sa.select(
                table.views_mark, table.compare_from, table.recheck_next, table.days_mark, table.recount_from
            ).where(table.zone == zone, table.segment_size == SEGMENT)
        )
    ).first()
    return None if row is None else State(*row)


async def begin(connection: AsyncConnection, *, zone: str, recount_from: date | None) -> None:
    """From nothing: no segment is counted, and the days from this one on are to be counted anew."""
    values = {
        "zone": zone,
        "segment_size": SEGMENT,
        "views_mark": None,
        "compare_from": None,
        "recheck_next": 0,
        "days_mark": None,
        "recount_from": recount_from,
    }
    statement = insert(roll_up_state).values(values)
    await connection.execute(statement.on_conflict_do_update(index_elements=["single"], set_=values))


async def save(connection: AsyncConnection, **changed: Any) -> None:
    """Change these columns."""
    await connection.execute(sa.update(roll_up_state).values(**changed))
