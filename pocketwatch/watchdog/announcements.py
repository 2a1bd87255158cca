"""How an incident is reported: by a fact, and by an email to those who run the suite."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import sqlalchemy as sa
from loguru import logger
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import outbox
from pocketwatch.storage.database import is_outage, reason_of
from pocketwatch.storage.incidents import Incident
from pocketwatch.text import shorten
from schemas.emails import IncidentEmail
from schemas.envelope import Envelope
from schemas.facts import IncidentOpened, IncidentRecovered
from schemas.locale import DEFAULT_LOCALE
from schemas.mail import MailRequested, parse_address
from schemas.message import Message

RECIPIENTS_UNKNOWN = "watchdog.recipients_unknown"
LONGEST_LINE = 2000  # characters, of an email
LONGEST_SUBJECT = 255
# Managers as the daily report finds them, under the action `incident`; a superuser without settings is one, too.
RECIPIENTS = sa.text("""
    SELECT users.id, coalesce(nullif(trim(settings.email_address), ''), users.email) AS address, preferences.locale
    FROM auth_user AS users
    LEFT JOIN moderation_manager_notification_settings AS settings ON settings.manager_id = users.id
    LEFT JOIN notification_preferences AS preferences ON preferences.user_id = users.id
    WHERE users.is_active AND CASE WHEN settings.id IS NULL THEN users.is_superuser
        ELSE users.is_staff AND settings.is_active AND settings.email_enabled AND (
            jsonb_typeof(settings.notify_for_actions) <> 'array' OR settings.notify_for_actions = '[]' OR EXISTS (
                SELECT FROM jsonb_array_elements_text(
                    CASE jsonb_typeof(settings.notify_for_actions) WHEN 'array' THEN settings.notify_for_actions END
                ) AS named WHERE lower(trim(named)) = 'incident')) END
    ORDER BY users.id
""")


async def announce_opened(connection: AsyncConnection, incident: Incident) -> None:
    """Put the fact and the emails into the outbox, in the transaction that opens the incident."""
    fact = IncidentOpened(
        incident_id=incident.id,
        kind=incident.kind,
        subject=incident.subject,
        detail=incident.detail,
        remedy=incident.remedy,
        opened_at=incident.opened_at,
    )
    await _publish(connection, fact, f"incident-{incident.id}.opened", incident)
    async for number, request in _emails(connection, incident):
        await _publish(connection, request, f"incident-{incident.id}.email.{number}", incident)


async def announce_recovered(connection: AsyncConnection, incident: Incident) -> None:
    """Put the fact into the outbox, in the transaction that closes the incident."""
    fact = IncidentRecovered(
        incident_id=incident.id,
        kind=incident.kind,
        subject=incident.subject,
        opened_at=incident.opened_at,
        recovered_at=incident.recovered_at or incident.seen_at,
    )
    await _publish(connection, fact, f"incident-{incident.id}.recovered", incident)


async def _publish(connection: AsyncConnection, message: Message, message_id: str, incident: Incident) -> None:
    envelope = Envelope(
        message_id=message_id,
        correlation_id=f"incident-{incident.id}",
        exchange=message.exchange,
        routing_key=message.routing_key,
        trigger="event",
    )
    table, values = outbox.of(envelope, message.payload())
    await connection.execute(sa.insert(table).inline(), values)  # whose id it may not read


async def _emails(connection: AsyncConnection, incident: Incident) -> AsyncIterator[tuple[int, MailRequested]]:
    """Yield one email for each address, with the id of its first reader."""
    email = IncidentEmail(
        occurred_at=incident.opened_at,
        kind=incident.kind,
        subject=shorten(incident.subject, LONGEST_SUBJECT),
        detail=shorten(incident.detail, LONGEST_LINE),
        remedy=shorten(incident.remedy, LONGEST_LINE),
    )
    addresses: set[str] = set()
    for reader in await _recipients(connection):
        address = parse_address(reader["address"])
        if address is None or address.lower() in addresses:
            continue
        addresses.add(address.lower())
        yield (
            reader["id"],
            MailRequested(
                to=address,
                letter=email,
                locale=reader["locale"] or DEFAULT_LOCALE,
                key=f"incident:{incident.id}:{address.lower()}",
                user_id=reader["id"],
            ),
        )


async def _recipients(connection: AsyncConnection) -> list[Mapping[str, Any]]:
    """Return the readers; none where the platform's users cannot be read, which must not hide the incident."""
    try:
        async with connection.begin_nested():
            return [dict(row) for row in (await connection.execute(RECIPIENTS)).mappings()]
    except DBAPIError as error:
        if is_outage(error):
            raise
        logger.bind(error=reason_of(error)[:200]).warning(RECIPIENTS_UNKNOWN)
        return []
