"""Tell a dead-man monitor, such as healthchecks.io, that the watchdog looks: it calls someone when nothing comes."""

import asyncio

import httpx
from loguru import logger

from pocketwatch.errors import SettingsError
from pocketwatch.web import open_client

TIMEOUT = 10.0  # seconds
PING_FAILED = "watchdog.ping_failed"


async def ping(url: str, *, failing: bool) -> None:
    """Request the URL, or while something urgent is wrong, the one with `/fail` after its path. Never raises.

    The URL is a secret: a stranger who knows it can keep the monitor quiet.
    """
    target = httpx.URL(url)
    if failing:
        target = target.copy_with(path=f"{target.path.rstrip('/')}/fail")
    try:
        async with asyncio.timeout(TIMEOUT), open_client(url) as client:
            status = (await client.get(target)).status_code
            reason = None if status < httpx.codes.BAD_REQUEST else f"answered {status}"
    except (
        httpx.HTTPError,
        httpx.InvalidURL,
        OSError,
        ValueError,
        SettingsError,
    ) as error:  # their texts may show the URL
        reason = type(error).__name__
    if reason is not None:
        logger.bind(reason=reason).warning(PING_FAILED)
