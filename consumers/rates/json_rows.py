"""Read a bank's answer as JSON rows, and quote its values in errors."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

from consumers.rates.errors import BankFailed
from pocketwatch import text
from schemas import json_bounds

MAX_SHOWN = 60  # characters of a value that an error quotes
MAX_INTEGER = 18  # digits; Python refuses to read very long integers, and a decimal has no such limit

Row = dict[str, Any]


def read(body: bytes) -> list[Any]:
    """Return the rows, with decimal numbers.

    Raises:
        BankFailed: if the body is not a JSON list with at least one row.
    """
    try:
        json_bounds.check(body)
    except ValueError as error:
        raise BankFailed(f"answer cannot be read: {error}") from error
    try:
        rows = json.loads(body.decode("utf-8-sig"), parse_float=_number, parse_int=_integer, parse_constant=str)
    except UnicodeDecodeError as error:
        raise BankFailed(f"answer is not UTF-8: {_beginning(body)}") from error
    except ValueError as error:
        raise BankFailed(f"answer is not JSON: {_beginning(body)}") from error
    if not isinstance(rows, list):
        raise BankFailed(f"answer is not a list: {_beginning(body)}")
    if not rows:
        raise BankFailed("answer is an empty list")
    return rows


def _number(text: str) -> Decimal | str:
    """Read a number exactly; return the text, which is not a rate, of a number that no decimal can hold."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _integer(text: str) -> int | Decimal | str:
    return int(text) if len(text) <= MAX_INTEGER else _number(text)


def storable(row: Row) -> Row:
    """Return the row as JSONB can hold it: decimals as text, nested values left out."""
    return {text.storable(name): _scalar(value) for name, value in row.items() if not isinstance(value, dict | list)}


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return text.storable(value)
    return str(value) if isinstance(value, Decimal) else value


def shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return f'"{text.shorten(text.storable(str(value)), MAX_SHOWN)}"'


def _beginning(body: bytes) -> str:
    return shown(" ".join(body[: 4 * MAX_SHOWN].decode(errors="replace").split()))
