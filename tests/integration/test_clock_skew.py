"""Destructive jobs refuse to run when the database and host clocks disagree."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from consumers.cleanup.files.log_files import clean_log_files
from consumers.cleanup.files.media import clean_media
from consumers.cleanup.files.static_files import clean_static_files
from consumers.cleanup.tokens.tokens import clean_tokens
from consumers.rates.cleanup import clean_rates
from pocketwatch.clock import utc_now
from pocketwatch.errors import Reject
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from schemas.message import Message
from schemas.ticks import CleanLogFiles, CleanMedia, CleanRates, CleanStaticFiles, CleanTokens
from tests.support.job_contexts import job_context

Clean = Callable[[Any, Any], Awaitable[None]]


@pytest.mark.parametrize("ahead", [timedelta(hours=2), timedelta(hours=-2)])
@pytest.mark.parametrize(
    ("clean", "tick"),
    [
        (clean_tokens, CleanTokens()),
        (clean_media, CleanMedia()),
        (clean_static_files, CleanStaticFiles()),
        (clean_log_files, CleanLogFiles()),
        (clean_rates, CleanRates()),
    ],
)
async def test_cleanup_refuses_to_start_when_clocks_disagree(
    database: Database, settings: Settings, clean: Clean, tick: Message, ahead: timedelta
):
    assert settings.files.static_root is not None
    (settings.files.static_root / "staticfiles.json").write_text('{"paths": {"a.js": "a.0123456789ab.js"}}')
    job = job_context(tick.routing_key, database, settings, now=utc_now() + ahead)

    with pytest.raises(Reject, match="nothing was changed, set the clocks"):
        await clean(tick, job)
