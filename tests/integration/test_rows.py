"""Rows in one parameter, on a real database: what they become, against the driver's own values, one row at a time."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from pocketwatch.storage.database import Database
from pocketwatch.storage.rows import insert_rows

TABLE = sa.Table(
    "of every Type",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("number", sa.BigInteger),
    sa.Column("small", sa.SmallInteger),
    sa.Column("share", sa.Double),
    sa.Column("rate", sa.Numeric(20, 8)),
    sa.Column("is true", sa.Boolean),
    sa.Column("word", sa.Text),
    sa.Column("short", sa.String(5)),
    sa.Column("at", sa.DateTime(timezone=True)),
    sa.Column("local", sa.DateTime),
    sa.Column("day", sa.Date),
    sa.Column("hour", sa.Time),
    sa.Column("took", sa.Interval),
    sa.Column("key", sa.Uuid),
    sa.Column("raw", sa.LargeBinary),
    sa.Column("names", ARRAY(sa.Text)),
    sa.Column("details", JSONB),
    sa.Column("default", sa.Text, server_default="theirs"),
)
PAGE = [
    {
        "number": 2**63 - 1,
        "small": -5,
        "share": 0.1 + 0.2,
        "rate": Decimal("41.12345678"),
        "is true": True,
        "word": '\'; --\n\\x \t"їжак" \U0001f600',
        "short": "їжаки",
        "at": datetime(2026, 10, 25, 3, 30, 0, 123456, timezone(timedelta(hours=3))),
        "local": datetime(2026, 10, 25, 3, 30),  # noqa: DTZ001
        "day": date(2026, 2, 28),
        "hour": time(23, 59, 59, 999999),
        "took": timedelta(days=-3, hours=2, microseconds=7),
        "key": UUID(int=7),
        "raw": bytes(range(256)),
        "names": ["a,b", '"', "", "NULL", "{}"],
        "details": {"a": [1, 2.5, None, {"b": "'"}], "text": "[]"},
    },
    {
        "number": -(2**63),
        "small": 0,
        "share": 1e308,
        "rate": Decimal("-0.00000001"),
        "is true": False,
        "word": "",
        "short": "",
        "at": datetime(1, 1, 2, tzinfo=UTC),
        "local": datetime(9999, 12, 31),  # noqa: DTZ001
        "day": date(9999, 12, 31),
        "hour": time(0),
        "took": timedelta(days=99999, seconds=1),
        "key": UUID(int=2**128 - 1),
        "raw": b"",
        "names": [],
        "details": [],
    },
]


@pytest.fixture
async def table(database: Database) -> sa.Table:
    async with database.begin() as connection:
        await connection.run_sync(TABLE.create)
    return TABLE


async def written(database: Database) -> list[dict[str, Any]]:
    async with database.begin() as connection:
        return [dict(row) for row in (await connection.execute(TABLE.select().order_by("id"))).mappings()]


async def test_values_are_those_that_the_driver_would_write(table: sa.Table, database: Database):
    async with database.begin() as connection:
        for row in PAGE:
            await connection.execute(table.insert().values(row))
        await insert_rows(connection, table, PAGE)

    *expected, first, second = await written(database)
    assert [first, second] == [row | {"id": row["id"] + len(PAGE)} for row in expected]


async def test_none_is_null_and_a_column_that_is_not_named_has_its_default(table: sa.Table, database: Database):
    async with database.begin() as connection:
        await insert_rows(connection, table, [dict.fromkeys(PAGE[0])])

    (row,) = await written(database)
    assert {name: value for name, value in row.items() if value is not None} == {"id": 1, "default": "theirs"}


async def test_rows_keep_their_order(table: sa.Table, database: Database):
    async with database.begin() as connection:
        await insert_rows(connection, table, [{"number": n} for n in range(1000, 0, -1)])

    assert [row["number"] for row in await written(database)] == [*range(1000, 0, -1)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("word", "a\0b"), ("short", "longer"), ("small", 2**15), ("number", 2**63), ("day", "no day")],
)
async def test_value_that_does_not_fit_is_refused_by_the_server(
    table: sa.Table, database: Database, name: str, value: object
):
    with pytest.raises(sa.exc.DBAPIError) as refused:
        async with database.begin() as connection:
            await insert_rows(connection, table, [{name: value}])

    assert str(refused.value.orig.sqlstate).startswith("22")  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_number_that_json_lacks_is_refused(table: sa.Table, database: Database, value: float):
    with pytest.raises(ValueError, match="not JSON compliant"):
        async with database.begin() as connection:
            await insert_rows(connection, table, [{"share": value}])
