"""Digests: letters that were held back from a manager go out as one, when the oldest has waited for the whole window.

    held by `delivery` ─► one letter a reader, asked for like any other ─► its fate is theirs, too

What is released and what is asked for commit together, so nothing is lost or doubled however a run ends.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumers.mail import queries
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.mail import MailRequested, SendDigests

READERS = 1_000  # in one run; the next one is soon
ITEMS = 100  # in one digest; what is more is counted


@consumer
async def send_digests(tick: SendDigests, job: JobContext) -> None:  # noqa: ARG001  it has nothing to say
    """Nothing is held for longer than the window and a few minutes, and each letter goes out in one digest only."""
    readers = await queries.ripe(job.session, window=job.settings.mail.digest_window, limit=READERS)
    letters = 0
    for reader in readers:
        held = await queries.held(job.session, reader)
        if held:
            wish = alone(held[0], reader) if len(held) == 1 else digest(held, reader, now=job.now)
            job.publish_payload(MailRequested, wish)
            await queries.release(job.session, [row["id"] for row in held], digest=wish["key"])
            letters += len(held)
    job.record(digests=len(readers), letters=letters)


def alone(row: sa.RowMapping, reader: str) -> dict[str, Any]:
    """One letter that was held goes out as itself."""
    return {
        "to": reader,
        "key": row["key"],
        "locale": row["locale"],
        "notification_id": row["notification_id"],
        **row["held"],
    }


def digest(rows: Sequence[sa.RowMapping], reader: str, *, now: datetime) -> dict[str, Any]:
    """Several go out as one, in the language of the latest. It is news of `now`, however old they are."""
    letters = [row["held"]["letter"] for row in rows]
    return {
        "to": reader,
        "key": f"digest:{rows[0]['id']}",
        "locale": rows[-1]["locale"],
        "user_id": rows[-1]["held"]["user_id"],
        "letter": {
            "name": "manager_digest",
            "occurred_at": now.isoformat(),
            "items": [item(letter) for letter in letters[:ITEMS]],
            "left_out": max(len(letters) - ITEMS, 0),
        },
    }


def item(letter: dict[str, Any]) -> dict[str, Any]:
    """What the digest says of a letter; of one that an older version has held, as much as it knows."""
    return {
        "kind": letter["name"],
        "ad_id": letter["ad_id"],
        "title": letter["ad_title"],
        "at": letter["occurred_at"],
        "url": letter.get("link"),
    }
