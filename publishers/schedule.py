"""Load the schedule from a TOML file, and check every entry."""

import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
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

HORIZON = timedelta(days=7)  # older missed fires are ignored
DEFAULT = Path(__file__).parent / "schedule.toml"


def _zone(name: Any) -> Any:
    try:
        return ZoneInfo(name)
    except Exception as error:
        raise ValueError("unknown time zone; use one such as Europe/Kyiv or UTC") from error


def _cron(expression: str) -> str:
    try:
        next(CronSim(expression, datetime(2026, 1, 1)))  # noqa: DTZ001  local time
    except StopIteration:
        raise ValueError("never fires") from None
    except CronSimError as error:
        raise ValueError(f"not a cron expression: {str(error).lower()}") from error
    return expression


def _job(name: str) -> str:
    try:
        schema = schema_of(name)
    except LookupError as error:
        raise ValueError(str(error)) from error
    if not issubclass(schema, Tick):
        raise ValueError("not a job; only jobs can be scheduled")  # noqa: TRY004  a wrong name is not a wrong type
    if not TOPOLOGY.route(schema.exchange, name):
        raise ValueError(f'no queue is bound to exchange "{schema.exchange}" for it')
    return name


def _duration(value: Any) -> timedelta:
    return parse_duration(str(value))  # str: a bare number is refused as a duration, too


def _spell(span: timedelta) -> str:
    """Spell a duration in the largest unit that divides it."""
    seconds = round(span.total_seconds())
    size, unit = next(each for each in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")) if seconds % each[0] == 0)
    return f"{seconds // size}{unit}"


def _grace(span: timedelta) -> timedelta:
    if span > HORIZON:
        raise ValueError(f"at most {HORIZON.days}d; older missed fires are ignored")
    return span


class Entry(BaseModel):
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
        """The message to publish, validated from JSON as the consumer does."""
        return schema_of(self.job).model_validate_json(json.dumps(self.payload, default=str))

    @property
    def definition(self) -> dict[str, Any]:
        """All fields, as the schedule file would spell them, for JSON."""
        own = self.model_dump(exclude={"timezone", "grace"})
        return own | {"payload": self.message.payload(), "timezone": self.timezone.key, "grace": _spell(self.grace)}

    @property
    def timetable(self) -> str:
        """Cron expression and time zone; an entry with a new timetable starts over."""
        return f"{self.cron} {self.timezone.key}"

    @cached_property
    def by_elapsed_time(self) -> bool:
        """Whether it fires at intervals rather than times of day: daylight saving then changes nothing, as in cron."""
        minute, hour = self.cron.split()[-5:-3]
        return minute.startswith("*") or hour.startswith("*")

    @property
    def in_gap(self) -> str:
        return self.gap or ("skip" if self.by_elapsed_time else "shift")

    @property
    def in_fold(self) -> str:
        return self.fold or ("both" if self.by_elapsed_time else "first")


class Schedule(BaseModel):
    """All entries, in the order of the file."""

    model_config = ConfigDict(frozen=True)

    entries: tuple[Entry, ...]
    hash: str = ""  # of the file's content

    @property
    def enabled(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.enabled)

    @property
    def disabled(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if not entry.enabled)

    def entry(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise ScheduleError(f'entry "{name}": unknown; use one of {", ".join(entry.name for entry in self.entries)}')


def load(path: Path | None = None) -> Schedule:
    """Load a schedule whose entries each have a job, a valid payload and a bound queue.

    Args:
        path: the file; the suite's own schedule by default.

    Raises:
        ScheduleError: naming everything that is wrong, and what is accepted.
    """
    path = path or DEFAULT
    try:
        return parse(path.read_bytes(), path)
    except OSError as error:
        raise ScheduleError(f'schedule "{path}" cannot be read: {error}') from error


def parse(content: bytes, path: Path) -> Schedule:
    """Parse the content of a schedule file, as `load` does."""
    try:
        return _schedule(tomllib.loads(content.decode()), path, hash_of(content))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScheduleError(f'schedule "{path}" cannot be read: {error}') from error


def hash_of(content: bytes) -> str:
    return sha256(content).hexdigest()


def _schedule(content: dict[str, Any], path: Path, content_hash: str) -> Schedule:
    entries: list[Entry] = []
    problems, tables = list(_structure_problems(content)), _tables(content)
    for number, table in enumerate(tables, 1):
        try:
            entries.append(_entry(table, str(content.get("timezone", "UTC"))))
        except ValueError as error:
            problems.append(f'entry "{table.get("name", f"number {number}")}": {error}')
    counts = Counter(str(table["name"]) for table in tables if "name" in table)
    problems += [f'entry "{name}": defined {count} times' for name, count in sorted(counts.items()) if count > 1]
    if problems:
        raise ScheduleError(f'schedule "{path}": {"; ".join(problems)}')
    return Schedule(entries=tuple(entries), hash=content_hash)


def _structure_problems(content: dict[str, Any]) -> Iterator[str]:
    for key in sorted(set(content) - {"timezone", "entry"}):
        yield f'unknown key "{key}"; use timezone and [[entry]]'
    if "entry" not in content:
        yield "no [[entry]]"
    elif not _tables(content):
        yield '"entry" is not a list of tables; begin each entry with a line [[entry]]'


def _tables(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries, or none if one of them is not a table."""
    tables = content.get("entry", [])
    return tables if isinstance(tables, list) and all(isinstance(table, dict) for table in tables) else []


def _entry(table: dict[str, Any], timezone: str) -> Entry:
    try:
        entry = Entry.model_validate({"timezone": timezone, **table})
    except ValidationError as error:
        raise ValueError(describe(error, Entry)) from error
    try:
        entry.message  # noqa: B018  validates the payload
    except ValidationError as error:
        raise ValueError(f"payload for {entry.job}: {describe(error, schema_of(entry.job))}") from error
    return entry
