"""Parameters of pages, as addresses and forms carry them."""

from datetime import datetime
from zoneinfo import ZoneInfo

from starlette.datastructures import FormData, QueryParams

from schemas.types import LARGEST_INT


def text(parameters: QueryParams | FormData, name: str) -> str:
    value = parameters.get(name)
    return value.strip() if isinstance(value, str) else ""


def texts(parameters: FormData, name: str) -> list[str]:
    """Return all values of a name, such as of the check boxes of a table."""
    return [each for each in parameters.getlist(name) if isinstance(each, str) and each]


def strings(parameters: FormData) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if isinstance(value, str)}


def row_id(value: str) -> int | None:
    return int(value) if value.isascii() and value.isdecimal() and int(value) <= LARGEST_INT else None


def moment(value: str, zone: ZoneInfo) -> datetime | None:
    """Read the time of an input, which is local unless it has a zone.

    Raises:
        ValueError: when it is not a time.
    """
    if not value:
        return None
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=zone)
