"""Types of fields: each value that they accept can be computed with, and fits into a column of PostgreSQL."""

import math
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field

LARGEST_INT = 2**63 - 1  # of a bigint
LARGEST_OBJECT = 100_000  # characters
MAX_FIELDS = 1_000  # of an object
MAX_DEPTH = 40  # nested lists and objects
LONGEST_TEXT = 10_000  # characters
LONGEST_NAME = 255
LONGEST_EXCERPT = 2_000
# A year of room at both ends, so that a moment exists in every time zone and a lifetime can be added to it.
FIRST_YEAR, LAST_YEAR = 2, 9998

Calendar = TypeVar("Calendar", date, datetime)


def within_calendar(value: Calendar) -> Calendar:
    if not FIRST_YEAR <= value.year <= LAST_YEAR:
        raise ValueError(f"must be within the years {FIRST_YEAR} to {LAST_YEAR}")
    return value


def without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain NUL, which the database cannot store")
    return text


def _excerpt(value: Any) -> Any:
    """Clean and cut a text, so that what is reported about a message never fails because of it."""
    if not isinstance(value, str):
        return value
    return value[:LONGEST_EXCERPT].encode("utf-8", "replace").decode().replace("\x00", "")


def _in_utc(moment: datetime) -> datetime:
    """Return the time in UTC, which the naive times of the platform are in."""
    within_calendar(moment)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _storable(content: dict[str, Any]) -> dict[str, Any]:
    """Refuse what the database cannot store, and sizes that would be a burden with a row for each manager."""
    left, room = [(value, 1) for part in content.items() for value in part], LARGEST_OBJECT
    while left:
        value, depth = left.pop()
        room -= 8 + (len(value) if isinstance(value, str | list | dict) else 0)
        if room < 0:
            raise ValueError(f"must not be larger than about {LARGEST_OBJECT} characters")
        if isinstance(value, dict | list):
            if depth >= MAX_DEPTH:
                raise ValueError(f"must not be nested more than {MAX_DEPTH} levels deep")
            parts = (part for item in value.items() for part in item) if isinstance(value, dict) else value
            left += [(part, depth + 1) for part in parts]
        elif isinstance(value, str):
            without_nul(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("must not contain infinite numbers, which the database cannot store")
        elif isinstance(value, int) and not -LARGEST_INT <= value <= LARGEST_INT:
            raise ValueError("must not contain integers beyond 64 bits")
    return content


Id = Annotated[int, Field(ge=1, le=LARGEST_INT)]
Count = Annotated[int, Field(ge=0, le=LARGEST_INT)]
Mean = Annotated[float, Field(ge=0, le=LARGEST_INT, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(without_nul)]
Name = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(without_nul)]
Excerpt = Annotated[str, BeforeValidator(_excerpt), Field(max_length=LONGEST_EXCERPT)]
Day = Annotated[date, AfterValidator(within_calendar)]
Moment = Annotated[AwareDatetime, AfterValidator(within_calendar)]
PlatformMoment = Annotated[datetime, AfterValidator(_in_utc)]
JsonObject = Annotated[dict[str, Any], Field(max_length=MAX_FIELDS), AfterValidator(_storable)]
