"""The schedule: read from a TOML file, and refused when an entry names what does not exist or says what cannot be."""

import json
import tomllib
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.clock import parse_duration
from pocketwatch.errors import ScheduleError
from schemas.catalogue import schema_of
from schemas.message import Message, Tick
from schemas.validation_errors import describe

HORIZON = timedelta(days=7)  # moments further back are not looked at any more
DEFAULT = Path(__file__).parent / "schedule.toml"


def _zone(name: Any) -> Any:
    try:
        return ZoneInfo(name)
    except Exception as error:
        raise ValueError(f'there is no time zone "{name}"; write one such as Europe/Kyiv or UTC') from error


def _cron(expression: str) -> str:
    try:
        next(CronSim(expression, datetime(2026, 1, 1)))  # noqa: DTZ001  wall time, on purpose
    except StopIteration:
        raise ValueError(f'"{expression}" never fires') from None
    except CronSimError as error:
        raise ValueError(f'"{expression}" is no cron expression: {str(error).lower()}') from error
    return expression


def _job(name: str) -> str:
    try:
        schema = schema_of(name)
    except LookupError as error:
        raise ValueError(str(error)) from error
    if not issubclass(schema, Tick):
        raise ValueError(f'"{name}" is no job that a schedule can ask for')  # noqa: TRY004  a wrong name, not a wrong type
    if not TOPOLOGY.route(schema.exchange, name):
        raise ValueError(f'no queue is bound to exchange "{schema.exchange}" for "{name}"')
    return name


def _duration(value: Any) -> timedelta:
    return parse_duration(str(value))  # a bare number is no duration either, and is to be told so


def _grace(span: timedelta) -> timedelta:
    if span > HORIZON:
        raise ValueError(f"at most {HORIZON.days}d: nobody looks further back for missed moments")
    return span


class Entry(BaseModel):
    """A line of the schedule."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,99}$")]
    cron: Annotated[str, AfterValidator(_cron)]
    job: Annotated[str, AfterValidator(_job)]
    payload: dict[str, Any] = {}
    why: Annotated[str, Field(min_length=1)]
    timezone: Annotated[ZoneInfo, BeforeValidator(_zone)]
    gap: Literal["shift", "skip"] | None = None
    fold: Literal["first", "second", "both"] | None = None
    catch_up: Literal["latest", "all", "skip"] = "latest"
    grace: Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_grace)] = timedelta(hours=6)
    enabled: bool = True

    @cached_property
    def message(self) -> Message:
        """What goes out: the payload read as the consumer will read it, from JSON, where a date is a text."""
        return schema_of(self.job).model_validate_json(json.dumps(self.payload, default=str))

    @property
    def timetable(self) -> str:
        """When it fires; another text is another plan, which begins anew."""
        return f"{self.cron} {self.timezone.key}"

    @cached_property
    def by_elapsed_time(self) -> bool:
        """Fires every so often, and not at set times of the day: daylight saving then changes nothing (as in cron)."""
        minute, hour = self.cron.split()[-5:-3]
        return minute.startswith("*") or hour.startswith("*")

    @property
    def in_gap(self) -> str:
        """What becomes of a time of day that does not exist."""
        return self.gap or ("skip" if self.by_elapsed_time else "shift")

    @property
    def in_fold(self) -> str:
        """Which of two equal times of day fires."""
        return self.fold or ("both" if self.by_elapsed_time else "first")


class Schedule(BaseModel):
    """All entries, in the order of the file."""

    model_config = ConfigDict(frozen=True)

    entries: tuple[Entry, ...]

    @property
    def enabled(self) -> tuple[Entry, ...]:
        """The entries that fire."""
        return tuple(entry for entry in self.entries if entry.enabled)

    def entry(self, name: str) -> Entry:
        """The entry of this name.

        Raises:
            ScheduleError: when there is none.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise ScheduleError(f'there is no entry "{name}"; known are {", ".join(entry.name for entry in self.entries)}')


def load(path: Path | None = None) -> Schedule:
    """Read and prove a schedule: each entry's job exists, takes its payload, and has a queue bound for it.

    Args:
        path: a file of the same form instead of the one that comes with the suite.

    Raises:
        ScheduleError: naming every entry that is wrong, and what would be right.
    """
    path = path or DEFAULT
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScheduleError(f'the schedule "{path}" cannot be read: {error}') from error
    entries: list[Entry] = []
    problems, lines = list(_strangers(content)), _lines(content)
    for number, line in enumerate(lines, 1):
        try:
            entries.append(_entry(line, str(content.get("timezone", "UTC"))))
        except ValueError as error:
            problems.append(f'entry "{line.get("name", f"number {number}")}": {error}')
    problems += _repeated([str(line["name"]) for line in lines if "name" in line])
    if problems:
        raise ScheduleError(f'the schedule "{path}" is wrong: {"; ".join(problems)}')
    return Schedule(entries=tuple(entries))


def _strangers(content: dict[str, Any]) -> Iterator[str]:
    for key in sorted(set(content) - {"timezone", "entry"}):
        yield f'"{key}" is no key of a schedule; known are timezone and [[entry]]'
    if "entry" not in content:
        yield "there is no [[entry]]"
    elif not _lines(content):
        yield '"entry" is no list of tables; begin each entry with a line [[entry]]'


def _lines(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries; none at all when anything among them is no table."""
    lines = content.get("entry", [])
    return lines if isinstance(lines, list) and all(isinstance(line, dict) for line in lines) else []


def _entry(line: dict[str, Any], timezone: str) -> Entry:
    try:
        entry = Entry.model_validate({"timezone": timezone, **line})
    except ValidationError as error:
        raise ValueError(describe(error, Entry)) from error
    try:
        entry.message  # noqa: B018  validates the payload
    except ValidationError as error:
        raise ValueError(f"its payload is refused by {entry.job}: {describe(error, schema_of(entry.job))}") from error
    return entry


def _repeated(names: list[str]) -> list[str]:
    return [
        f'entry "{name}" is there {names.count(name)} times' for name in sorted(set(names)) if names.count(name) > 1
    ]
