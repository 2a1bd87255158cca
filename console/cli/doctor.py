"""`doctor`: what is wrong with this installation, in one list."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
import typer

from console.cli.main import user_message
from consumers.app import GROUPS
from consumers.moderation.review.judge import rules_of
from consumers.rates.staleness import ages
from pocketwatch import settings as reading
from pocketwatch.broker.declare import describe_mismatch, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import with_celery
from pocketwatch.clock import utc_now
from pocketwatch.command import (
    database,
    read_settings,
    run,
    short_timeout,
)
from pocketwatch.settings import Rates, Settings
from pocketwatch.stack import probes, servers
from pocketwatch.storage import migrate, outbox
from pocketwatch.storage.database import Database
from pocketwatch.storage.redis import connected
from pocketwatch.terminal import AsJson, print_json, print_table
from publishers import schedule

OLDEST_RABBITMQ, OLDEST_POSTGRESQL, OLDEST_REDIS = (3, 10), (14, 0), (5, 0)
UNSENT_FOR = 60.0  # seconds; older rows of the outbox mean that no relay runs
CLOCKS_APART = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    result: Literal["ok", "warning", "problem"]
    detail: str


def doctor(as_json: AsJson = False) -> None:
    """Find what is wrong: settings, servers, versions, tables, queues, consumers, dead letters. Changes nothing.

    Ends with 1 when there is a problem; a warning is no problem.

    Example: pocketwatch doctor
    """
    findings = run(_examine(read_settings()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table("doctor", ("subject", "result", "detail"), [(f.subject, f.result, f.detail) for f in findings])
    raise typer.Exit(int(any(finding.result == "problem" for finding in findings)))


async def _examine(settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    for part in (_settings, _schedule, _rules, _folders, _database, _redis, _mail, _broker):
        try:
            async for finding in part(settings):
                found.append(finding)  # noqa: PERF401  what was found before an error is told, too
        except Exception as error:
            if (words := user_message(error)) is None:
                raise
            found.append(Finding(part.__name__.removeprefix("_"), "problem", words))
    return found


async def _settings(_: Settings) -> AsyncIterator[Finding]:
    unknown = reading.unknown_names()
    for name, near in unknown.items():
        yield Finding("settings", "warning", f"{name} is unknown{f'; did you mean {near}?' if near else ''}")
    if not unknown:
        yield Finding("settings", "ok", "all names are known")


async def _schedule(settings: Settings) -> AsyncIterator[Finding]:
    entries = schedule.load(settings.running.schedule).enabled
    yield Finding("schedule", "ok", f"{len(entries)} entries, each with a job, a valid payload and a queue")


async def _rules(settings: Settings) -> AsyncIterator[Finding]:
    found = rules_of(settings.moderation.rules)
    yield Finding("rules", "ok", f"{len(found.rules)} rules of the moderation, version {found.version}")


async def _folders(settings: Settings) -> AsyncIterator[Finding]:
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
        return Finding("folders", "problem", f'{name} is "{folder}", which is no folder on this machine')
    writable = os.access(folder, os.W_OK | os.X_OK)
    return Finding(
        "folders", "ok" if writable else "problem", f"{folder} {'may' if writable else 'may not'} be written"
    )


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    async with database(settings, "doctor") as opened:
        yield await _postgresql(opened)
        yield await _clock(opened)
        current = await migrate.is_current(opened)
        yield Finding(
            "tables",
            "ok" if current else "problem",
            "up to date" if current else "not migrated; run: pocketwatch migrate",
        )
        missing = await migrate.missing_platform_columns(opened)
        yield Finding(
            "platform tables",
            "warning" if missing else "ok",
            f"missing: {', '.join(missing)}; the jobs that need them fail" if missing else "all columns are there",
        )
        if current:
            yield await _outbox(opened)
            async for finding in _rates(opened, settings.rates):
                yield finding


async def _postgresql(opened: Database) -> Finding:
    async with opened.begin() as connection:
        number = int((await connection.execute(sa.text("SHOW server_version_num"))).scalar_one())
    version = (number // 10000, number % 10000)
    return _version("PostgreSQL", version, OLDEST_POSTGRESQL)


def _version(name: str, version: tuple[int, int], oldest: tuple[int, int]) -> Finding:
    shown = ".".join(map(str, version))
    if version < oldest:
        return Finding(name, "problem", f"version {shown}; at least {'.'.join(map(str, oldest))} is needed")
    return Finding(name, "ok", f"version {shown}")


async def _clock(opened: Database) -> Finding:
    async with opened.begin() as connection:
        there = (await connection.execute(sa.select(sa.func.clock_timestamp()))).scalar_one()
    apart = abs((utc_now() - there).total_seconds())
    return Finding(
        "clocks", "ok" if apart < CLOCKS_APART else "problem", f"the database's and ours are {apart:.1f} s apart"
    )


async def _outbox(opened: Database) -> Finding:
    async with opened.begin() as connection:
        due_in = await outbox.seconds_to_next(connection)
        refused, error = await outbox.refused(connection)
    if refused:
        return Finding("outbox", "problem", f"{refused} could not be published so far, such as: {error}")
    late = 0.0 if due_in is None else max(-due_in, 0.0)
    detail = "nothing waits" if late < UNSENT_FOR else f"unsent for {late:.0f} s; run: pocketwatch publish"
    return Finding("outbox", "ok" if late < UNSENT_FOR else "problem", detail)


async def _redis(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.servers.redis_url
    if url is None:
        yield Finding("Redis", "warning", "REDIS_URL is not set, so cleanup.sessions is skipped")
        return
    async with connected(url) as client:
        version = str((await client.info("server"))["redis_version"]).split(".")
    yield _version("Redis", (int(version[0]), int(version[1])), OLDEST_REDIS)


async def _mail(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.servers.smtp_url
    if url is None:
        yield Finding("mail", "warning", "SMTP_URL is not set, so letters cannot be sent")
        return
    answers = await asyncio.to_thread(probes.is_reachable, url)
    detail = f"{servers.address(url)} {'answers' if answers else 'does not answer; letters wait'}"
    yield Finding("mail", "ok" if answers else "problem", detail)


async def _rates(opened: Database, wanted: Rates) -> AsyncIterator[Finding]:
    async with opened.begin() as connection:
        now = (await connection.execute(sa.select(sa.func.now()))).scalar_one()
        known = await ages(connection, wanted.currencies, now=now)
    for currency in wanted.currencies:
        age = known.get(currency)
        is_stale = age is None or age > wanted.stale_after
        detail = "there is none" if age is None else f"the newest ended {age.days} days and {age.seconds // 3600} h ago"
        advice = "; run: pocketwatch trigger rates.update --wait" if is_stale else ""
        yield Finding(f"rate of {currency}", "warning" if is_stale else "ok", detail + advice)


async def _broker(settings: Settings) -> AsyncIterator[Finding]:
    async with Publisher(settings.rabbitmq_urls, role="doctor", startup_timeout=short_timeout(settings)) as publisher:
        yield _version("RabbitMQ", publisher.server_version, OLDEST_RABBITMQ)
        for queue in with_celery(settings.bridge.celery_queue).queues:
            found = await queue_info(publisher.connection, queue.name)
            if found is None:
                yield Finding(queue.name, "problem", "the queue does not exist; run: pocketwatch migrate")
                continue
            if not queue.external and (difference := await describe_mismatch(publisher.connection, queue)) is not None:
                yield Finding(queue.name, "problem", difference)
            group = (
                "bridge" if queue.external else next((name for name in GROUPS if name == queue.name.split(".")[0]), "")
            )
            advice = f"nobody consumes it; run: pocketwatch consume {group}"
            yield Finding(
                queue.name,
                "ok" if found[1] else "warning",
                f"{found[0]} waiting, consumers: {found[1]}" if found[1] else f"{found[0]} waiting, {advice}",
            )
            dead = await queue_info(publisher.connection, queue.dead_letter_queue)
            if dead is not None and dead[0]:
                yield Finding(queue.dead_letter_queue, "warning", f"{dead[0]} dead letters; see: pocketwatch dead list")
