"""Checks of what this process finds here: settings, the schedule, folders, Redis."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

from console.checks.versions import REDIS
from consumers.cleanup.files.folder import RootUnusable, open_root
from pocketwatch.errors import Reject
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings, unknown_names
from pocketwatch.storage.redis import connected
from publishers import schedule


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


async def check_redis(settings: Settings) -> AsyncIterator[Finding]:
    url = settings.servers.redis_url
    if url is None:
        yield Finding("Redis", "warning", "REDIS_URL is not set, so cleanup.sessions is skipped")
        return
    async with connected(url) as client:
        version = str((await client.info("server"))["redis_version"]).split(".")
    yield REDIS.check((int(version[0]), int(version[1])))
