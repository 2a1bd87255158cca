"""SQL of the delivery log and of digests."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from consumers.mail.decisions import Claim, LogRow, RecentVolume
from pocketwatch.storage.delivery_states import state_of, status_of
from pocketwatch.storage.tables.suite import notification_logs

MAX_EXTERNAL_ID = 100  # the platform's column
REFUSED = "the mail server refuses us: "  # how the error of an email begins that waits for an operator
delivery_state: sa.ColumnElement[str] = sa.literal_column(state_of(notification_logs.name))

# A cached plan, made while the log was small, is a sequential scan, kept until the table is analysed: it halves the
# throughput after some thousand emails.
REPLAN = sa.text("SET LOCAL plan_cache_mode = force_custom_plan")
# Sorted by key, so that replicas with the same emails wait for each other instead of deadlocking.
INSERT_ROWS = sa.text(f"""
    INSERT INTO moderation_notification_logs AS log (
        method, recipient, state, status, error_message, sent_at, external_id, notification_id, key, letter, locale,
        updated_at, requested_at, request
    )
    SELECT 'email', claim.recipient, 'pending', {status_of("'pending'")}, '', now(), '', notification.id, claim.key,
        claim.letter, claim.locale, now(), now(), CAST(claim.request AS jsonb)
    FROM unnest(
        CAST(:keys AS text[]), CAST(:recipients AS text[]), CAST(:names AS text[]), CAST(:locales AS text[]),
        CAST(:notifications AS bigint[]), CAST(:requests AS text[])
    ) AS claim (key, recipient, letter, locale, notification_id, request)
    LEFT JOIN moderation_notifications notification ON notification.id = claim.notification_id
    ORDER BY claim.key
    ON CONFLICT (key) DO NOTHING
""")
LOCK_ROWS = sa.text(f"""
    SELECT log.key, log.id, {state_of("log")}, log.attempts, log.doubts, log.sent_at AS requested_at, log.updated_at,
        log.held IS NOT NULL AS is_held, log.digest, clock_timestamp() AS now,
        ARRAY(SELECT scope FROM mail_suppressions WHERE address = lower(claim.recipient)) AS suppressed,
        coalesce(preference.channels ? 'email', true) AS wants_email,
        preference.quiet_from, preference.quiet_until, preference.timezone
    FROM unnest(CAST(:keys AS text[]), CAST(:recipients AS text[]), CAST(:users AS bigint[]))
        AS claim (key, recipient, user_id)
    JOIN moderation_notification_logs log ON log.key = claim.key
    LEFT JOIN notification_preferences preference ON preference.user_id = claim.user_id
    ORDER BY log.key
    FOR UPDATE OF log
""")
# Emails that came in a digest do not count.
RECENT_VOLUME = sa.text(f"""
    SELECT recipient,
        count(*) FILTER (WHERE held IS NULL AND digest IS NULL AND {state_of("log")} IN ('sent', 'sending')) AS sent,
        bool_or(held IS NOT NULL) AS is_holding
    FROM moderation_notification_logs AS log
    WHERE recipient = ANY(:recipients)
        AND (sent_at > now() - CAST(:window AS interval) OR held IS NOT NULL)
        AND method = 'email' AND letter = ANY(:kinds)
    GROUP BY recipient
""")
UPDATE_ROWS = sa.text(f"""
    UPDATE moderation_notification_logs log
    SET state = decided.state, status = {status_of("decided.state")}, attempts = decided.attempts,
        doubts = decided.doubts, error_message = decided.reason, external_id = decided.external_id,
        held = CAST(decided.held AS jsonb), updated_at = clock_timestamp()
    FROM unnest(
        CAST(:ids AS bigint[]), CAST(:states AS text[]), CAST(:attempts AS int[]), CAST(:doubts AS int[]),
        CAST(:reasons AS text[]), CAST(:external_ids AS text[]), CAST(:held AS text[])
    ) AS decided (id, state, attempts, doubts, reason, external_id, held)
    WHERE log.id = decided.id
""")
# A process that took a sender for dead does not overwrite `sent`.
RECORD_RESULTS = sa.text(f"""
    UPDATE moderation_notification_logs log
    SET state = result.state, status = {status_of("result.state")}, reply = result.reply, error_message = result.error,
        doubts = log.doubts + result.unconfirmed,
        attempts = CASE WHEN result.counts THEN log.attempts ELSE 0 END, updated_at = clock_timestamp(),
        sent_at = CASE result.state WHEN 'sent' THEN clock_timestamp() ELSE log.sent_at END
    FROM unnest(
        CAST(:keys AS text[]), CAST(:states AS text[]), CAST(:replies AS text[]), CAST(:errors AS text[]),
        CAST(:unconfirmed AS int[]), CAST(:counts AS boolean[])
    ) AS result (key, state, reply, error, unconfirmed, counts)
    WHERE log.key = result.key AND {state_of("log")} <> 'sent'
    RETURNING log.key, log.doubts
""")
COPY_DIGEST_RESULTS = sa.text(f"""
    UPDATE moderation_notification_logs log
    SET state = {state_of("digest")}, status = digest.status, reply = digest.reply,
        error_message = digest.error_message,
        sent_at = CASE digest.status WHEN 'sent' THEN digest.sent_at ELSE log.sent_at END,
        external_id = digest.external_id, updated_at = digest.updated_at
    FROM moderation_notification_logs digest
    WHERE digest.key = ANY(:keys) AND log.digest = digest.key AND log.key <> digest.key
""")
RENEW_LEASES = sa.text(f"""
    UPDATE moderation_notification_logs SET updated_at = clock_timestamp() WHERE id IN (
        SELECT id FROM moderation_notification_logs AS log WHERE key = ANY(:keys) AND {state_of("log")} = 'sending'
        FOR UPDATE SKIP LOCKED
    )
""")
DUE_RECIPIENTS = sa.text("""
    SELECT recipient FROM moderation_notification_logs WHERE held IS NOT NULL
    GROUP BY recipient HAVING min(updated_at) <= now() - CAST(:window AS interval)
    ORDER BY min(updated_at), recipient LIMIT :limit
""")
HELD_EMAILS = sa.text("""
    SELECT id, key, locale, held, notification_id FROM moderation_notification_logs
    WHERE recipient = :recipient AND held IS NOT NULL ORDER BY id FOR UPDATE
""")
RELEASE = sa.text("""
    UPDATE moderation_notification_logs SET held = NULL, digest = :digest, updated_at = clock_timestamp()
    WHERE id = ANY(:ids)
""")


async def lock_rows(connection: AsyncConnection, claims: Sequence[Claim]) -> dict[str, LogRow]:
    """Lock and return the rows of these claims by key, inserting the missing ones. Keys must be unique."""
    await connection.execute(REPLAN)
    shared = {"keys": [claim.key for claim in claims], "recipients": [claim.recipient for claim in claims]}
    await connection.execute(
        INSERT_ROWS,
        {
            **shared,
            "names": [claim.email for claim in claims],
            "locales": [claim.locale for claim in claims],
            "notifications": [claim.notification_id for claim in claims],
            "requests": [claim.request for claim in claims],
        },
    )
    found = await connection.execute(LOCK_ROWS, {**shared, "users": [claim.user_id for claim in claims]})
    return {row[0]: LogRow(*row) for row in found}


async def recent_volume(
    connection: AsyncConnection, recipients: Collection[str], *, kinds: Sequence[str], window: timedelta
) -> dict[str, RecentVolume]:
    """Return the volume of these kinds of email by recipient; recipients without any are missing."""
    if not recipients:
        return {}
    values = {"recipients": list(recipients), "kinds": list(kinds), "window": window}
    return {row[0]: RecentVolume(row[1], row[2]) for row in await connection.execute(RECENT_VOLUME, values)}


async def update_rows(connection: AsyncConnection, updates: Sequence[tuple[LogRow, str, str, str | None]]) -> None:
    """Write decisions: each row, with the reason, the Message-ID and the held request."""
    if updates:
        rows = [row for row, *_ in updates]
        values = {
            "ids": [row.id for row in rows],
            "states": [row.state for row in rows],
            "attempts": [row.attempts for row in rows],
            "doubts": [row.unconfirmed for row in rows],
            "reasons": [reason for _, reason, _, _ in updates],
            "external_ids": [external_id[:MAX_EXTERNAL_ID] for _, _, external_id, _ in updates],
            "held": [held for *_, held in updates],
        }
        await connection.execute(UPDATE_ROWS, values)


async def record_results(
    connection: AsyncConnection, results: Mapping[str, tuple[str, str, str, int, bool]]
) -> dict[str, int]:
    """Write results: by key the state, the reply, the error, 1 for an unconfirmed attempt, and whether it counts.

    Returns:
        The number of unconfirmed attempts by key, without emails that were already `sent`.
    """
    await connection.execute(REPLAN)
    columns = [list(column) for column in zip(*results.values(), strict=True)]
    values = dict(zip(("states", "replies", "errors", "unconfirmed", "counts"), columns, strict=True))
    found = await connection.execute(RECORD_RESULTS, {"keys": list(results), **values})
    return {row[0]: row[1] for row in found}


async def copy_digest_results(connection: AsyncConnection, digests: Collection[str]) -> None:
    """Copy the state of digests to the emails in them."""
    if digests:
        await connection.execute(COPY_DIGEST_RESULTS, {"keys": list(digests)})


async def renew_leases(connection: AsyncConnection, keys: Collection[str]) -> None:
    await connection.execute(RENEW_LEASES, {"keys": list(keys)})


async def due_recipients(session: AsyncSession, *, window: timedelta, limit: int) -> list[str]:
    """Return the recipients with an email held for at least the window, longest first."""
    return list((await session.execute(DUE_RECIPIENTS, {"window": window, "limit": limit})).scalars())


async def held_emails(session: AsyncSession, recipient: str) -> Sequence[sa.RowMapping]:
    """Lock and return what is held for a recipient, oldest first."""
    return (await session.execute(HELD_EMAILS, {"recipient": recipient})).mappings().all()


async def release(session: AsyncSession, ids: Sequence[int], *, digest: str) -> None:
    """Release held emails: they are sent in the email with this key, which may be their own."""
    await session.execute(RELEASE, {"ids": list(ids), "digest": digest})


async def refused(connection: AsyncConnection) -> tuple[int, str] | None:
    """Return how many emails wait because the mail server refuses us, and what it said to the latest; None if none."""
    query = (
        sa.select(sa.func.count().over(), notification_logs.c.error_message)
        .where(
            delivery_state == "pending",
            notification_logs.c.error_message.startswith(REFUSED),
            notification_logs.c.sent_at > sa.func.now() - timedelta(days=30),  # the index; few emails live as long
        )
        .order_by(notification_logs.c.updated_at.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1].removeprefix(REFUSED))


async def unsent(connection: AsyncConnection) -> dict[str, int]:
    """Count the emails of the last day that failed, or wait after an attempt or for ten minutes, by state."""
    is_waiting = sa.and_(
        delivery_state.in_(["pending", "sending"]),
        notification_logs.c.held.is_(None),
        sa.or_(
            notification_logs.c.error_message != "",
            notification_logs.c.sent_at < sa.func.now() - timedelta(minutes=10),
        ),
    )
    query = (
        sa.select(delivery_state, sa.func.count())
        .where(
            notification_logs.c.method == "email",
            notification_logs.c.sent_at > sa.func.now() - timedelta(days=1),
            sa.or_(delivery_state.in_(["failed", "unknown"]), is_waiting),
        )
        .group_by(delivery_state)
        .order_by(sa.func.count().desc(), delivery_state)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}
