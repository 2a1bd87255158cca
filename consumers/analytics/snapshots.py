"""Snapshots: the results of the analytics jobs, in a table, and in Redis for the web tier.

A Redis key holds the newest period of its kind and locale, and expires if no run renews it:

    pocketwatch:analytics:<kind>[:<locale>]    {"kind", "locale", "period", "generated_at", "payload"}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa
from loguru import logger
from sqlalchemy.dialects.postgresql import insert

from pocketwatch.errors import ServerUnreachable, SettingsError
from pocketwatch.storage.redis import connected
from pocketwatch.storage.tables.suite import analytics_snapshots
from pocketwatch.worker.context import JobContext
from schemas.facts import ReportReady
from schemas.locale import Locale

Kind = Literal["quick_stats", "platform", "daily_report"]

PREFIX = "pocketwatch:analytics:"
# Several times the interval of the job: one failed run is bridged, several are not.
CACHED_FOR: Mapping[Kind, timedelta] = {
    "quick_stats": timedelta(hours=1),
    "platform": timedelta(hours=4),
    "daily_report": timedelta(hours=49),
}
CACHE_FAILED = "analytics.cache_failed"

# The report of an earlier day must not replace yesterday's.
SET_IF_NEWEST = """
local found = redis.pcall('GET', KEYS[1])
if type(found) == 'string' then
  local readable, before = pcall(cjson.decode, found)
  if readable and type(before) == 'table' and type(before.period) == 'string' and before.period > ARGV[1] then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    id: int
    generated_at: datetime
    cached: bool
    is_superseded: bool


def cache_errors() -> tuple[type[Exception], ...]:
    """Return what a connection to a cache may raise; none of it fails a run."""
    from redis.exceptions import RedisError  # noqa: PLC0415  see `storage/redis.py`

    return ServerUnreachable, SettingsError, RedisError


def key_of(kind: Kind, locale: Locale | None) -> str:
    return f"{PREFIX}{kind}" if locale is None else f"{PREFIX}{kind}:{locale}"


def moment(when: datetime) -> str:
    """Return a period that is a moment: ISO 8601 in UTC, which sorts as text."""
    return when.astimezone(UTC).isoformat(timespec="seconds")


async def store(
    job: JobContext, *, kind: Kind, locale: Locale | None, period: str, payload: Mapping[str, Any], keep: timedelta
) -> StoredSnapshot:
    """Store a result, replacing one of the same period, and publish `report.ready`.

    Redis holds a copy; whether it could be written is recorded as `cached`.

    Args:
        period: the moment (see `moment`) or the day of the result, ISO 8601.
        payload: JSON values.
        keep: the least time until the row may be deleted.
    """
    row = await _upsert(job, kind, locale, period, payload, keep)
    url = None if row.is_superseded else job.settings.servers.redis_url
    job.publish(ReportReady(kind=kind, locale=locale, period=period, snapshot_id=row.id))
    cached = await _cache(url, kind, locale, period, payload, row.generated_at)
    job.record(cached=cached and job.statistics.get("cached", True))
    return StoredSnapshot(row.id, row.generated_at, cached, row.is_superseded)


async def _upsert(
    job: JobContext, kind: Kind, locale: Locale | None, period: str, payload: Mapping[str, Any], keep: timedelta
) -> sa.Row[tuple[int, datetime, bool]]:
    """Return the row, and whether a later period exists; future snapshots of a wrong clock do not count."""
    now: Any = sa.func.statement_timestamp()
    table, other = analytics_snapshots.c, analytics_snapshots.alias().c
    later = sa.exists().where(
        other.kind == kind,
        sa.func.coalesce(other.locale, "") == (locale or ""),
        other.period > period,
        other.generated_at <= now,
    )
    statement = insert(analytics_snapshots).values(
        kind=kind, locale=locale, period=period, payload=dict(payload), generated_at=now, expires_at=now + keep
    )
    new = statement.excluded
    stored = await job.session.execute(
        statement.on_conflict_do_update(
            index_elements=[table.kind, sa.text("coalesce(locale, '')"), table.period],
            set_={"payload": new.payload, "generated_at": new.generated_at, "expires_at": new.expires_at},
        ).returning(table.id, table.generated_at, later.label("is_superseded"))
    )
    return stored.one()


async def _cache(
    url: str | None, kind: Kind, locale: Locale | None, period: str, payload: Mapping[str, Any], generated_at: datetime
) -> bool:
    if url is None:
        return False
    value = {"kind": kind, "locale": locale, "period": period, "generated_at": generated_at.isoformat()}
    text = json.dumps(value | {"payload": dict(payload)}, ensure_ascii=False)
    lasting = int(CACHED_FOR[kind].total_seconds())
    try:
        async with connected(url) as client:
            await client.eval(SET_IF_NEWEST, 1, key_of(kind, locale), period, text, lasting)
    except cache_errors() as error:
        logger.bind(kind=kind, locale=locale, error=str(error)[:200]).warning(CACHE_FAILED)
        return False
    return True
