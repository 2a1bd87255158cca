"""The SQL of letters: their log, who wants none, and who wants them when."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from pocketwatch.storage.tables.suite import mail_suppressions, notification_logs

LONGEST_MESSAGE_ID = 100  # the platform's column

# A plan that was made while the log was small reads it from end to end, and is kept until somebody analyses the table:
# thousands of letters later half the speed is gone.
PLAN_ANEW = sa.text("SET LOCAL plan_cache_mode = force_custom_plan")
# Sorted by key, so that two replicas that hold the same letters wait for each other instead of deadlocking.
ADD = sa.text("""
    INSERT INTO moderation_notification_logs AS log (
        method, recipient, status, error_message, sent_at, external_id, notification_id, key, letter, locale, updated_at
    )
    SELECT 'email', asked.recipient, 'pending', '', now(), '', notification.id, asked.key, asked.letter, asked.locale,
        now()
    FROM unnest(
        CAST(:keys AS text[]), CAST(:recipients AS text[]), CAST(:letters AS text[]), CAST(:locales AS text[]),
        CAST(:notifications AS bigint[])
    ) AS asked (key, recipient, letter, locale, notification_id)
    LEFT JOIN moderation_notifications notification ON notification.id = asked.notification_id
    ORDER BY asked.key
    ON CONFLICT (key) DO NOTHING
""")
LOCK = sa.text("""
    SELECT log.key, log.id, log.status, log.attempts, log.doubts, log.sent_at AS asked_at, log.updated_at,
        log.held IS NOT NULL AS is_held, log.digest, clock_timestamp() AS now,
        ARRAY(SELECT scope FROM mail_suppressions WHERE address = lower(asked.recipient)) AS suppressed,
        coalesce(wishes.channels ? 'email', true) AS wants_email, wishes.quiet_from, wishes.quiet_until, wishes.timezone
    FROM unnest(CAST(:keys AS text[]), CAST(:recipients AS text[]), CAST(:users AS bigint[]))
        AS asked (key, recipient, user_id)
    JOIN moderation_notification_logs log ON log.key = asked.key
    LEFT JOIN notification_preferences wishes ON wishes.user_id = asked.user_id
    ORDER BY log.key
    FOR UPDATE OF log
""")
# What a manager got lately, and whether something is held back for him already. What came in a digest does not count.
CROWDS = sa.text("""
    SELECT recipient,
        count(*) FILTER (WHERE held IS NULL AND digest IS NULL AND status IN ('sent', 'sending')) AS sent,
        bool_or(held IS NOT NULL) AS is_holding
    FROM moderation_notification_logs
    WHERE recipient = ANY(:recipients)
        AND (sent_at > now() - CAST(:window AS interval) OR held IS NOT NULL)
        AND method = 'email' AND letter = ANY(:letters)
    GROUP BY recipient
""")
MARK = sa.text("""
    UPDATE moderation_notification_logs log
    SET status = marked.status, attempts = marked.attempts, doubts = marked.doubts, error_message = marked.reason,
        external_id = marked.external_id, held = CAST(marked.held AS jsonb), updated_at = clock_timestamp()
    FROM unnest(
        CAST(:ids AS bigint[]), CAST(:statuses AS text[]), CAST(:attempts AS int[]), CAST(:doubts AS int[]),
        CAST(:reasons AS text[]), CAST(:external_ids AS text[]), CAST(:held AS text[])
    ) AS marked (id, status, attempts, doubts, reason, external_id, held)
    WHERE log.id = marked.id
""")
# What was sent is not unsaid by another who thought that the sender had died.
SETTLE = sa.text("""
    UPDATE moderation_notification_logs log
    SET status = settled.status, reply = settled.reply, error_message = settled.error,
        doubts = log.doubts + settled.doubt, updated_at = clock_timestamp(),
        sent_at = CASE settled.status WHEN 'sent' THEN clock_timestamp() ELSE log.sent_at END
    FROM unnest(
        CAST(:keys AS text[]), CAST(:statuses AS text[]), CAST(:replies AS text[]), CAST(:errors AS text[]),
        CAST(:doubts AS int[])
    ) AS settled (key, status, reply, error, doubt)
    WHERE log.key = settled.key AND log.status <> 'sent'
    RETURNING log.key, log.doubts
""")
FOLLOW = sa.text("""
    UPDATE moderation_notification_logs log
    SET status = digest.status, reply = digest.reply, error_message = digest.error_message,
        sent_at = CASE digest.status WHEN 'sent' THEN digest.sent_at ELSE log.sent_at END,
        external_id = digest.external_id, updated_at = digest.updated_at
    FROM moderation_notification_logs digest
    WHERE digest.key = ANY(:keys) AND log.digest = digest.key AND log.key <> digest.key
""")
BEAT = sa.text("""
    UPDATE moderation_notification_logs SET updated_at = clock_timestamp() WHERE id IN (
        SELECT id FROM moderation_notification_logs WHERE key = ANY(:keys) AND status = 'sending'
        FOR UPDATE SKIP LOCKED
    )
""")
SUPPRESS = sa.text("""
    INSERT INTO mail_suppressions (address, scope, reason)
    SELECT DISTINCT ON (lower(address)) lower(address), :scope, reason
    FROM unnest(CAST(:addresses AS text[]), CAST(:reasons AS text[])) AS refused (address, reason)
    ORDER BY lower(address)
    ON CONFLICT DO NOTHING
""")

RIPE = sa.text("""
    SELECT recipient FROM moderation_notification_logs WHERE held IS NOT NULL
    GROUP BY recipient HAVING min(updated_at) <= now() - CAST(:window AS interval)
    ORDER BY min(updated_at), recipient LIMIT :limit
""")
HELD = sa.text("""
    SELECT id, key, locale, held, notification_id FROM moderation_notification_logs
    WHERE recipient = :recipient AND held IS NOT NULL ORDER BY id FOR UPDATE
""")
RELEASE = sa.text("""
    UPDATE moderation_notification_logs SET held = NULL, digest = :digest, updated_at = clock_timestamp()
    WHERE id = ANY(:ids)
""")


@dataclass(slots=True)
class Row:
    """A letter's row of the log, locked, with what its reader wishes; it changes as it is decided upon."""

    key: str
    id: int
    status: str
    attempts: int
    doubts: int  # attempts that may have sent it, or not
    asked_at: datetime  # once it is sent: when it was
    updated_at: datetime | None
    is_held: bool
    digest: str | None
    now: datetime
    suppressed: Sequence[str]  # scopes
    wants_email: bool
    quiet_from: time | None
    quiet_until: time | None
    timezone: str | None


@dataclass(slots=True)
class Crowd:
    """How many letters a reader got within the window, and whether more are held back for him."""

    sent: int = 0
    is_holding: bool = False


async def lock(connection: AsyncConnection, asked: Sequence[Mapping[str, Any]]) -> dict[str, Row]:
    """The rows of these letters, by key, locked; made where they are missing. Each key once."""
    await connection.execute(PLAN_ANEW)
    columns = {name: [each[name] for each in asked] for name in ("key", "recipient", "letter", "locale")}
    shared = {"keys": columns["key"], "recipients": columns["recipient"]}
    await connection.execute(
        ADD,
        {
            **shared,
            "letters": columns["letter"],
            "locales": columns["locale"],
            "notifications": [each["notification_id"] for each in asked],
        },
    )
    found = await connection.execute(LOCK, {**shared, "users": [each["user_id"] for each in asked]})
    return {row[0]: Row(*row) for row in found}


async def crowds(
    connection: AsyncConnection, recipients: Collection[str], *, letters: Sequence[str], window: timedelta
) -> dict[str, Crowd]:
    """What these readers got of these letters lately."""
    if not recipients:
        return {}
    values = {"recipients": list(recipients), "letters": list(letters), "window": window}
    return {row[0]: Crowd(row[1], row[2]) for row in await connection.execute(CROWDS, values)}


async def mark(connection: AsyncConnection, marks: Sequence[tuple[Row, str, str, str | None]]) -> None:
    """Write what was decided: each row, with the reason, the Message-ID and what is held."""
    if marks:
        rows = [row for row, *_ in marks]
        values = {
            "ids": [row.id for row in rows],
            "statuses": [row.status for row in rows],
            "attempts": [row.attempts for row in rows],
            "doubts": [row.doubts for row in rows],
            "reasons": [reason for _, reason, _, _ in marks],
            "external_ids": [external_id[:LONGEST_MESSAGE_ID] for _, _, external_id, _ in marks],
            "held": [held for *_, held in marks],
        }
        await connection.execute(MARK, values)


async def settle(connection: AsyncConnection, settled: Mapping[str, tuple[str, str, str, int]]) -> dict[str, int]:
    """Write what became of letters: by key the status, the reply, the error and 1 where that is in doubt.

    Returns:
        The doubts of each since; what was sent already is missing.
    """
    await connection.execute(PLAN_ANEW)
    columns = [list(column) for column in zip(*settled.values(), strict=True)]
    values = dict(zip(("statuses", "replies", "errors", "doubts"), columns, strict=True))
    found = await connection.execute(SETTLE, {"keys": list(settled), **values})
    return {row[0]: row[1] for row in found}


async def follow(connection: AsyncConnection, digests: Collection[str]) -> None:
    """The letters of these digests share their fate."""
    if digests:
        await connection.execute(FOLLOW, {"keys": list(digests)})


async def beat(connection: AsyncConnection, keys: Collection[str]) -> None:
    """Say that somebody is sending these."""
    await connection.execute(BEAT, {"keys": list(keys)})


async def suppress(connection: AsyncConnection, reasons: Mapping[str, str], *, scope: str) -> None:
    """No more letters to these addresses, each for its reason."""
    if reasons:
        values = {"addresses": list(reasons), "reasons": list(reasons.values()), "scope": scope}
        await connection.execute(SUPPRESS, values)


async def ripe(session: AsyncSession, *, window: timedelta, limit: int) -> list[str]:
    """The readers for whom something has been held for as long as the window, longest first."""
    return list((await session.execute(RIPE, {"window": window, "limit": limit})).scalars())


async def held(session: AsyncSession, recipient: str) -> Sequence[sa.RowMapping]:
    """What is held for a reader, oldest first, locked."""
    return (await session.execute(HELD, {"recipient": recipient})).mappings().all()


async def release(session: AsyncSession, ids: Sequence[int], *, digest: str) -> None:
    """These are held no more: they go out in the letter with this key, which may be their own."""
    await session.execute(RELEASE, {"ids": list(ids), "digest": digest})


async def newest(
    connection: AsyncConnection, *, status: str | None, recipient: str | None, limit: int
) -> list[dict[str, Any]]:
    """The latest rows of the notification log, newest first, with the names of its columns."""
    query = sa.select(notification_logs).order_by(notification_logs.c.id.desc()).limit(limit)
    if status is not None:
        query = query.where(notification_logs.c.status == status)
    if recipient is not None:
        query = query.where(sa.func.lower(notification_logs.c.recipient) == recipient.lower())
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def suppressed(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Every address that gets no letters, or not all, newest first."""
    query = sa.select(mail_suppressions).order_by(
        mail_suppressions.c.suppressed_at.desc(), mail_suppressions.c.address, mail_suppressions.c.scope
    )
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def forget(connection: AsyncConnection, address: str) -> list[str]:
    """Let this address have letters again; returns the scopes that were suppressed."""
    forgotten = sa.delete(mail_suppressions).where(mail_suppressions.c.address == address.lower())
    return list((await connection.execute(forgotten.returning(mail_suppressions.c.scope))).scalars())
