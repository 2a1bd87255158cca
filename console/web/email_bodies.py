"""The HTML of emails, shown in a frame that may run no script, load nothing and leave for nowhere."""

import asyncio
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from consumers.mail.compose import images, samples
from consumers.mail.compose.rendering import EmailRenderer, RenderedEmail, SiteIdentity
from pocketwatch.settings import LOCAL_STACK, Settings
from schemas.emails import Email

POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'"
EMAIL: TypeAdapter[Email] = TypeAdapter(Email)
SAMPLES: Mapping[str, Email] = {sample.name: sample for sample in samples.SAMPLES}


def body_response(html: str | None) -> Response:
    """Return an email's HTML, which others have written, so that it can do no harm.

    Raises:
        HTTPException: when there is none (404).
    """
    if html is None:
        raise HTTPException(404, "The content of this email is not stored.")
    return HTMLResponse(html, headers={"Content-Security-Policy": POLICY, "X-Frame-Options": "SAMEORIGIN"})


async def rendered(row: Mapping[str, Any], settings: Settings, *, with_images: bool = False) -> RenderedEmail | None:
    """Render an email of the delivery log as it would be sent now; None when its content is not known."""
    try:
        email = EMAIL.validate_json(json.dumps((row["request"] or {}).get("letter")))
    except ValidationError:  # of a former version
        return None
    return await asyncio.to_thread(_render, email, row["locale"] or "", settings, with_images=with_images)


async def preview_of(name: str, locale: str, settings: Settings, *, with_images: bool = False) -> RenderedEmail | None:
    """Render the sample of an email; None when there is no such email."""
    if (email := SAMPLES.get(name)) is None:
        return None
    return await asyncio.to_thread(_render, email, locale, settings, with_images=with_images)


def _render(email: Email, locale: str, settings: Settings, *, with_images: bool = False) -> RenderedEmail:
    site = SiteIdentity(settings.site.name, settings.site.url, settings.mail.sender)
    unsubscribe_url = samples.UNSUBSCRIBE if email.subscribed else None  # leads nowhere
    shown = _renderer(site, settings.site.timezone).render(email, locale, unsubscribe_url=unsubscribe_url)
    if not with_images:
        return shown
    html = images.inline(shown.html, images.images_of(email, shown.locale))
    return RenderedEmail(shown.subject, shown.text, html, shown.locale)


@functools.cache
def _renderer(site: SiteIdentity, timezone: str) -> EmailRenderer:
    return EmailRenderer(site, timezone)


def caught_folder(settings: Settings) -> Path | None:
    """Return the folder of the local stack when emails go to its mail catcher; None on any other machine."""
    local = dotenv_values(LOCAL_STACK).get("SMTP_URL") if LOCAL_STACK.exists() else None
    if local is None or settings.servers.smtp_url != local or not (LOCAL_STACK.parent / "mail").exists():
        return None
    return LOCAL_STACK.parent
