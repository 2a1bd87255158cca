"""Inserts all rows of a batch by one statement, with one parameter: JSON, which the server reads as rows of the table.

The statement is the same for any number of rows. One for each row costs both sides twice as much:
docs/decisions/0019-rows-as-one-parameter.md.
"""

import json
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

QUOTE = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]


def read_rows(table: sa.TableClause, names: Sequence[str]) -> Any:
    """Return the rows in the parameter `rows` as a FROM item with these columns, typed as in the table."""
    no_row: sa.ColumnElement[Any] = sa.literal_column(f"CAST(NULL AS {QUOTE.format_table(table)})")
    rows = sa.cast(sa.bindparam("rows", type_=sa.Text), postgresql.JSON)
    return sa.func.json_populate_recordset(no_row, rows).table_valued(*map(sa.column, names), name="each")


def as_parameter(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return the parameter that holds these rows."""
    return {"rows": json.dumps(rows, default=_as_text, allow_nan=False)}


async def insert_rows(connection: AsyncConnection, table: sa.TableClause, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that all have the same columns, in their order."""
    await connection.execute(_insert(table, tuple(rows[0])), as_parameter(rows))


@cache
def _insert(table: sa.TableClause, names: tuple[str, ...]) -> sa.Insert:
    each = read_rows(table, names)
    # Inline: without RETURNING, for which a group that may only insert lacks the right.
    return sa.insert(table).from_select(names, sa.select(*each.c)).inline()


def _as_text(value: Any) -> str:
    """Return the text of a value that has no type in JSON, as the server reads it."""
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value // timedelta(microseconds=1)} microseconds"
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return str(value)
