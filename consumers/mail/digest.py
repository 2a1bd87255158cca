"""Send held emails to managers as digests, when the oldest has been held for the whole window.

    held by `delivery` ─► one digest per recipient, requested like any other email ─► its result is copied to them

Releasing the emails and requesting the digest commit together.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumers.mail import queries
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.mail import MailRequested, SendDigests

MAX_RECIPIENTS = 1_000  # per run
MAX_ITEMS = 100  # per digest; the rest is counted


@consumer
async def send_digests(tick: SendDigests, job: JobContext) -> None:  # noqa: ARG001  it has no arguments
    """Hold no email for longer than the window and a few minutes, and send each in one digest only."""
    window = job.settings.mail.digest_window
    recipients = await queries.due_recipients(job.session, window=window, limit=MAX_RECIPIENTS)
    emails = 0
    for recipient in recipients:
        held = await queries.held_emails(job.session, recipient)
        if held:
            request = single(held[0], recipient) if len(held) == 1 else digest(held, recipient, now=job.now)
            job.publish_payload(MailRequested, request)
            await queries.release(job.session, [row["id"] for row in held], digest=request["key"])
            emails += len(held)
    job.record(digests=len(recipients), letters=emails)


def single(row: sa.RowMapping, recipient: str) -> dict[str, Any]:
    return {
        "to": recipient,
        "key": row["key"],
        "locale": row["locale"],
        "notification_id": row["notification_id"],
        **row["held"],
    }


def digest(rows: Sequence[sa.RowMapping], recipient: str, *, now: datetime) -> dict[str, Any]:
    """Request several as one, in the locale of the latest. It occurs now, however old they are."""
    emails = [row["held"]["letter"] for row in rows]
    return {
        "to": recipient,
        "key": f"digest:{rows[0]['id']}",
        "locale": rows[-1]["locale"],
        "user_id": rows[-1]["held"]["user_id"],
        "letter": {
            "name": "manager_digest",
            "occurred_at": now.isoformat(),
            "items": [item(email) for email in emails[:MAX_ITEMS]],
            "left_out": max(len(emails) - MAX_ITEMS, 0),
        },
    }


def item(email: dict[str, Any]) -> dict[str, Any]:
    """Return what the digest shows of an email; an older version may have held it with fewer fields."""
    return {
        "kind": email["name"],
        "ad_id": email["ad_id"],
        "title": email["ad_title"],
        "at": email["occurred_at"],
        "url": email.get("link"),
    }
