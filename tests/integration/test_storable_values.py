"""Whatever passes a schema fits into PostgreSQL."""

import json
from datetime import date, datetime

import psycopg

from tests.support import hostile_values


def test_accepted_hostile_values_fit_into_columns(database_url: str):
    messages = [message for each in hostile_values.ALL for message in hostile_values.accepted(each)]
    found = {leaf for message in messages for leaf in hostile_values.leaves(message.model_dump())}
    payloads = {json.dumps(message.model_dump(mode="json")) for message in messages}
    columns = {
        "bigint": [leaf for leaf in found if type(leaf) is int],
        "float8": [leaf for leaf in found if type(leaf) is float],
        "text": [leaf for leaf in found if type(leaf) is str],
        "timestamptz": [leaf for leaf in found if type(leaf) is datetime],
        "date": [leaf for leaf in found if type(leaf) is date],
    }

    with psycopg.connect(database_url) as connection:
        stored = connection.execute(
            "SELECT count(content::jsonb) FROM unnest(%s::text[]) AS content", [list(payloads)]
        ).fetchone()
        for column, values in columns.items():
            count = f"SELECT count(value) FROM unnest(%s::{column}[]) AS value"
            assert connection.execute(count.encode(), [values]).fetchone() == (len(values),)

    assert stored == (len(payloads),)
    assert len(payloads) > 100
