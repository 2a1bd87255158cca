"""Checks of an installation: settings, schedule, folders, servers, tables, queues, and those of the groups."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.app import GROUPS
from consumers.cleanup.files.folder import RootUnusable, open_root
from pocketwatch import command
from pocketwatch.broker.declare import describe_mismatch, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import TOPOLOGY, Queue
from pocketwatch.clock import utc_now
from pocketwatch.errors import Reject
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings, unknown_names
from pocketwatch.storage import migrate, outbox
from pocketwatch.storage.database import clock_time
from pocketwatch.storage.redis import connected
from publishers import schedule

Check = Callable[[Settings], AsyncIterator[Finding]]
Version = tuple[int, int]

OLDEST_RABBITMQ, OLDEST_POSTGRESQL, OLDEST_REDIS = (3, 10), (14, 0), (5, 0)
MAX_OUTBOX_DELAY = 60.0  # seconds; older rows mean that no relay runs
MAX_CLOCK_SKEW = 60.0  # seconds


async def check_settings(_: Settings) -> AsyncIterator[Finding]:
    unknown = unknown_names()
    for name, closest in unknown.items():
        yield Finding("settings", "warning", f"{name} is unknown{f'; did you mean {closest}?' if closest else ''}")
    if not unknown:
        yield Finding("settings", "ok", "all names are known")


async def check_schedule(settings: Settings) -> AsyncIterator[Finding]:
    entries = schedule.load(settings.running.schedule).enabled
    yield Finding("schedule", "ok", f"{len(entries)} entries, each with a job, a valid payload and a queue")


async def check_folders(settings: Settings) -> AsyncIterator[Finding]:
    for name, folder in (
        ("POCKETWATCH_MEDIA_ROOT", settings.files.media_root),
        ("POCKETWATCH_STATIC_ROOT", settings.files.static_root),
        ("POCKETWATCH_LOG_ROOT", settings.files.log_root),
    ):
        yield _folder(name, folder)


def _folder(name: str, folder: Path | None) -> Finding:
    if folder is None:
        return Finding("folders", "warning", f"{name} is not set, so its clean-up fails")
    if not folder.is_dir() or folder.is_symlink():
        return Finding("folders", "problem", f'{name} is "{folder}", which is not a folder on this machine')
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("folders", "problem", f"{folder} is not writable")
    try:
        with open_root(folder):
            pass
    except (RootUnusable, Reject) as error:
        return Finding("folders", "problem", str(error))
    return Finding("folders", "ok", f"{folder} is writable")


async def check_database(settings: Settings) -> AsyncIterator[Finding]:
    async with command.database(settings, "doctor") as database, database.engine.connect() as connection:
        number = int((await connection.execute(sa.text("SHOW server_version_num"))).scalar_one())
        yield _version("PostgreSQL", (number // 10000, number % 10000), OLDEST_POSTGRESQL)
        yield await _clocks(connection)
        missing = ", ".join(await migrate.missing_platform_columns(database))
        detail = f"missing: {missing}; the jobs that need them fail" if missing else "all columns exist"
        yield Finding("platform tables", "warning" if missing else "ok", detail)
        if not await migrate.is_current(database):
            yield Finding("tables", "problem", "not migrated; run: pocketwatch migrate")
            return
        yield Finding("tables", "ok", "up to date")
        yield await _outbox(connection)


def _version(name: str, version: Version, oldest: Version) -> Finding:
    shown = ".".join(map(str, version))
    if version < oldest:
        return Finding(name, "problem", f"version {shown}; at least {'.'.join(map(str, oldest))} is needed")
    return Finding(name, "ok", f"version {shown}")


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


async def _queue(publisher: Publisher, queue: Queue) -> AsyncIterator[Finding]:
    found = await queue_info(publisher.connection, queue.name)
    if found is None:
        yield Finding(queue.name, "problem", "the queue does not exist; run: pocketwatch migrate")
        return
    if (mismatch := await describe_mismatch(publisher.connection, queue)) is not None:
        yield Finding(queue.name, "problem", mismatch)
    waiting, consumers = found
    if consumers:
        yield Finding(queue.name, "ok", f"{waiting} messages, {consumers} consumers")
    else:
        remedy = f"no consumer; run: pocketwatch consume {_group_of(queue)}".rstrip()
        yield Finding(queue.name, "warning", f"{waiting} messages, {remedy}")
    dead = await queue_info(publisher.connection, queue.dead_letter_queue)
    if dead is not None and dead[0]:
        yield Finding(queue.dead_letter_queue, "warning", f"{dead[0]} dead letters; see: pocketwatch dead list")


def _group_of(queue: Queue) -> str:
    return next((group for group in GROUPS if group == queue.name.split(".")[0]), "")


CHECKS: dict[str, Check] = {
    "settings": check_settings,
    "schedule": check_schedule,
    "folders": check_folders,
    "database": check_database,
    "redis": check_redis,
    "broker": check_broker,
}


def all_checks() -> Iterator[tuple[str, Check]]:
    """Yield the checks above and those in `checks.py` of the groups, each with its subject."""
    yield from CHECKS.items()
    for group in GROUPS:
        if find_spec(f"consumers.{group}.checks") is not None:
            yield group, import_module(f"consumers.{group}.checks").check
