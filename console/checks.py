"""Checks of an installation: settings, schedule, folders, servers, tables, queues, and those of the groups."""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.app import GROUPS
from consumers.cleanup.files.folder import RootUnusable, open_root
from pocketwatch import command
from pocketwatch.broker.declare import describe_mismatch, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY, Queue
from pocketwatch.clock import utc_now
from pocketwatch.errors import NotPermitted, Reject
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings, unknown_names
from pocketwatch.storage import django, fires, migrate, outbox, pauses
from pocketwatch.storage.database import clock_time
from pocketwatch.storage.redis import connected
from publishers import schedule
from publishers.cron import next_fire

Check = Callable[[Settings], AsyncIterator[Finding]]
Version = tuple[int, int]

OLDEST_RABBITMQ, OLDEST_POSTGRESQL, OLDEST_REDIS = (3, 10), (14, 0), (5, 0)
MAX_OUTBOX_DELAY = 60.0  # seconds; older rows mean that no relay runs
READ_ONLY = sa.text("SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'")
MAX_CLOCK_SKEW = 60.0  # seconds
MAX_FIRE_DELAY = timedelta(minutes=1)  # a publisher records fires within seconds
PUBLISHER_REMEDY = "run: pocketwatch publish, and look for schedule.* in its log"


async def check_settings(_: Settings) -> AsyncIterator[Finding]:
    unknown = unknown_names()
    for name, closest in unknown.items():
        yield Finding("settings", "warning", f"{name} is unknown{f'; did you mean {closest}?' if closest else ''}")
    if not unknown:
        yield Finding("settings", "ok", "all names are known")


async def check_schedule(settings: Settings) -> AsyncIterator[Finding]:
    loaded = schedule.load(settings.running.schedule)
    disabled = ", ".join(entry.name for entry in loaded.disabled)
    detail = f"{len(loaded.entries)} entries, each with a job, a valid payload and a queue"
    remedy = "; to enable it: pocketwatch schedule list"
    yield Finding("schedule", "ok", f"{detail}; disabled: {disabled}{remedy}" if disabled else detail)


async def check_folders(settings: Settings) -> AsyncIterator[Finding]:
    for name, folder in (
        ("POCKETWATCH_MEDIA_ROOT", settings.files.media_root),
        ("POCKETWATCH_STATIC_ROOT", settings.files.static_root),
        ("POCKETWATCH_LOG_ROOT", settings.files.log_root),
    ):
        yield _folder(name, folder)


def _folder(name: str, folder: Path | None) -> Finding:
    if folder is None:
        return Finding("folders", "warning", f"{name} is not set, so its clean-up is skipped")
    if _is_elsewhere(folder):
        detail = f'{name} is "{folder}", which is not mounted here; it must be where a consumer of cleanup runs'
        return Finding("folders", "warning", detail)
    if not folder.is_dir() or folder.is_symlink():
        return Finding("folders", "problem", f'{name} is "{folder}", which is not a folder')
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("folders", "problem", f"{folder} is not writable")
    try:
        with open_root(folder):
            pass
    except (RootUnusable, Reject) as error:
        return Finding("folders", "problem", str(error))
    return Finding("folders", "ok", f"{folder} is writable")


def _is_elsewhere(folder: Path) -> bool:
    """Whether a folder is missing or belongs to a read-only system, as that of a container without its volume."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return status.st_dev == Path("/").stat().st_dev and bool(os.statvfs("/").f_flag & os.ST_RDONLY)


async def check_database(settings: Settings) -> AsyncIterator[Finding]:
    async with command.database(settings, "doctor") as database, database.engine.connect() as connection:
        number = int((await connection.execute(sa.text("SHOW server_version_num"))).scalar_one())
        yield _version("PostgreSQL", (number // 10000, number % 10000), OLDEST_POSTGRESQL)
        yield await _writable(connection)
        if await database.is_pooled():
            yield Finding(
                "pooler", "ok", "between here and the server; the relay polls, statements are not kept prepared"
            )
        yield await _clocks(connection)
        missing = ", ".join(await migrate.missing_platform_columns(database))
        detail = f"missing: {missing}; the jobs that need them fail" if missing else "all columns exist"
        yield Finding("platform tables", "warning" if missing else "ok", detail)
        if not await migrate.is_current(database):
            yield Finding("tables", "problem", "not migrated; run: pocketwatch migrate")
            return
        yield Finding("tables", "ok", "up to date")
        yield await _outbox(connection)
        if apps := await _unknown_to_django(connection):
            detail = f"does not know that the tables of {' and '.join(apps)} exist"
            yield Finding("Django", "warning", f"{detail}; to migrate it, run: {django.REMEDY}")


async def _unknown_to_django(connection: AsyncConnection) -> list[str]:
    try:
        return (await django.unrecorded(connection)).next
    except DBAPIError:  # a user of the suite need not read Django's tables
        await connection.rollback()
        return []


def _version(name: str, version: Version, oldest: Version) -> Finding:
    shown = ".".join(map(str, version))
    if version < oldest:
        return Finding(name, "problem", f"version {shown}; at least {'.'.join(map(str, oldest))} is needed")
    return Finding(name, "ok", f"version {shown}")


async def _writable(connection: AsyncConnection) -> Finding:
    is_standby, is_read_only = (await connection.execute(READ_ONLY)).one()
    if is_standby:
        remedy = "name the primary in DATABASE_URL, or all servers: postgresql://user@one,two/name"
        return Finding("writable", "problem", f"the server is read-only, because it is a standby; {remedy}")
    if is_read_only:
        remedy = "find out who has set it for this user, database or server, and run ALTER … RESET"
        return Finding("writable", "problem", f"read-only, because default_transaction_read_only is on; {remedy}")
    return Finding("writable", "ok", "not read-only")


async def _clocks(connection: AsyncConnection) -> Finding:
    skew = abs((utc_now() - await clock_time(connection)).total_seconds())
    detail = f"the database and this machine differ by {skew:.1f} s"
    return Finding("clocks", "ok" if skew < MAX_CLOCK_SKEW else "problem", detail)


async def _outbox(connection: AsyncConnection) -> Finding:
    count, error = await outbox.failing(connection)
    if count:
        return Finding("outbox", "problem", f"{count} messages cannot be published, such as: {error}")
    delay = -(await outbox.seconds_to_next(connection) or 0.0)
    if delay >= MAX_OUTBOX_DELAY:
        return Finding("outbox", "problem", f"unsent for {delay:.0f} s; run: pocketwatch publish")
    return Finding("outbox", "ok", "no overdue rows")


async def check_fires(settings: Settings) -> AsyncIterator[Finding]:
    """Compare the last recorded fire of each entry with what its timetable says."""
    entries = schedule.load(settings.running.schedule).enabled
    async with command.database(settings, "doctor") as database:
        if not await migrate.is_current(database):
            return  # `check_database` says so
        async with database.begin() as connection:
            now = await clock_time(connection)
            known = await fires.latest(connection, [entry.name for entry in entries], now=now)
            paused = await pauses.in_force(connection)
            in_future, newest = await fires.in_future(connection, now=now)
    registered = [entry for entry in entries if known.get(entry.name, (None, ""))[1] == entry.timetable]
    behind = {
        entry.name: at
        for entry in registered
        if entry.name not in paused
        and (at := next_fire(entry, known[entry.name][0])) is not None
        and now - at > MAX_FIRE_DELAY
    }
    for name, since in behind.items():
        detail = f"nothing is recorded for the fire of {since:%Y-%m-%d %H:%M:%S} UTC, nor since; {PUBLISHER_REMEDY}"
        yield Finding(f"entry {name}", "problem", detail)
    if missing := [entry.name for entry in entries if entry not in registered]:
        detail = f"no publisher has registered {len(missing)} entries, such as {missing[0]}; {PUBLISHER_REMEDY}"
        yield Finding("fires", "warning", detail)
    elif not behind:
        yield Finding("fires", "ok", f"all {len(entries)} entries have a record of their last fire")
    if newest is not None:
        detail = f"{in_future} are recorded in the future, up to {newest:%Y-%m-%d %H:%M} UTC: {fires.FUTURE_REMEDY}"
        yield Finding("fires in the future", "warning", detail)


async def check_redis(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.servers.redis_url
    if url is None:
        yield Finding("Redis", "warning", "REDIS_URL is not set, so cleanup.sessions is skipped")
        return
    async with connected(url) as client:
        version = str((await client.info("server"))["redis_version"]).split(".")
    yield _version("Redis", (int(version[0]), int(version[1])), OLDEST_REDIS)


async def check_broker(settings: Settings) -> AsyncIterator[Finding]:
    timeout = command.short_timeout(settings)
    async with Publisher(settings.rabbitmq_urls, role="doctor", startup_timeout=timeout) as publisher:
        yield _version("RabbitMQ", publisher.server_version, OLDEST_RABBITMQ)
        for queue in TOPOLOGY.queues:
            async for finding in _queue(publisher, queue):
                yield finding
        async for finding in _mismatches(publisher, TOPOLOGY.queues):
            yield finding


async def _queue(publisher: Publisher, queue: Queue) -> AsyncIterator[Finding]:
    found = await queue_info(publisher.connection, queue.name)
    if found is None:
        yield Finding(queue.name, "problem", "the queue does not exist; run: pocketwatch migrate")
        return
    waiting, consumers = found
    if consumers:
        yield Finding(queue.name, "ok", f"{waiting} messages, {consumers} consumers")
    else:
        remedy = f"no consumer; run: pocketwatch consume {_group_of(queue)}".rstrip()
        yield Finding(queue.name, "warning", f"{waiting} messages, {remedy}")
    dead = await queue_info(publisher.connection, queue.dead_letter_queue)
    if dead is not None and dead[0]:
        yield Finding(queue.dead_letter_queue, "warning", f"{dead[0]} dead letters; see: pocketwatch dead list")


async def _mismatches(publisher: Publisher, queues: Iterable[Queue]) -> AsyncIterator[Finding]:
    """Compare the arguments of existing queues, which only a user who may declare them can."""
    for queue in queues:
        if await queue_info(publisher.connection, queue.name) is None:
            continue
        try:
            mismatch = await describe_mismatch(publisher.connection, queue)
        except NotPermitted:
            detail = "arguments were not compared: this user may not declare queues; check with the user of migrate"
            yield Finding("queues", "warning", detail)
            return
        if mismatch is not None:
            yield Finding(queue.name, "problem", mismatch)


def _group_of(queue: Queue) -> str:
    return next((group for group in GROUPS if group == queue.name.split(".")[0]), "")


CHECKS: dict[str, Check] = {
    "settings": check_settings,
    "schedule": check_schedule,
    "folders": check_folders,
    "database": check_database,
    "fires": check_fires,
    "redis": check_redis,
    "broker": check_broker,
}


def all_checks() -> Iterator[tuple[str, Check]]:
    """Yield the checks above and those in `checks.py` of the groups, each with its subject."""
    yield from CHECKS.items()
    for group in GROUPS:
        if find_spec(f"consumers.{group}.checks") is not None:
            yield group, import_module(f"consumers.{group}.checks").check
