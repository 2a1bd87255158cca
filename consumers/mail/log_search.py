"""Search the delivery log, for commands and pages."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.mail.queries import delivery_state
from pocketwatch.storage.delivery_states import STATUS_OF_STATE
from pocketwatch.storage.tables.suite import notification_logs, notifications

IS_UNSENT = sa.literal_column(f"{notification_logs.name}.status <> 'sent'", sa.Boolean)  # as the index says it
MAX_COUNTED = 10_000  # emails, of which the sent ones are counted
HELD = "held"  # for a digest; the log's own state is `pending`
SHOWN_STATES = (*STATUS_OF_STATE, HELD)
UNDELIVERED = tuple(state for state in SHOWN_STATES if state != "sent")

LOG = notification_logs.c
shown_state: sa.ColumnElement[str] = sa.case((LOG.held.is_not(None), HELD), else_=delivery_state)
_email = LOG.request["letter"]
_ad_of_email: sa.ColumnElement[str] = sa.literal_column(f"({notification_logs.name}.request #>> '{{letter,ad_id}}')")
_ad_id = sa.func.coalesce(sa.cast(_ad_of_email, sa.BigInteger), notifications.c.ad_id)
# What an email is about: its own subject, the title of the ad, or the day of the report.
_about = sa.func.coalesce(*(_email[fact].astext for fact in ("subject", "ad_title", "day")), notifications.c.title)
_is_sent = delivery_state == "sent"
_shown: dict[str, sa.ColumnElement[Any]] = {
    **{column.name: column for column in LOG if column.name not in {"state", "request"}},
    "status": delivery_state,
    "requested_at": sa.func.coalesce(LOG.requested_at, sa.case((_is_sent, None), else_=LOG.sent_at)),
    "sent_at": sa.case((_is_sent, LOG.sent_at), else_=None),
    "ad_id": _ad_id,
    "about": _about,
}
_joined = notification_logs.outerjoin(notifications, notifications.c.id == LOG.notification_id)


@dataclass(frozen=True, kw_only=True)
class LogFilter:
    """Which emails are wanted; all without one.

    Args:
        states: of `SHOWN_STATES`; `pending` is without those that are held.
        recipient: an address or its beginning, in any case.
        since: requested, or sent, at this moment or later.
        until: before this moment.
    """

    states: Collection[str] = ()
    kind: str | None = None
    ad_id: int | None = None
    recipient: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        found: list[sa.ColumnElement[bool]] = [shown_state.in_(self.states)] if self.states else []
        if self.states and "sent" not in self.states:
            # Rows that others have written have the state as their status.
            statuses = {*self.states, *(STATUS_OF_STATE.get(state, "pending") for state in self.states)}
            found += [IS_UNSENT, LOG.status.in_(statuses)]  # the index
        if self.kind is not None:
            found.append(LOG.letter == self.kind)
        if self.ad_id is not None:
            found.append(LOG.id.in_(_ids_of_ad(self.ad_id)))
        if self.recipient is not None:
            found.append(sa.func.lower(LOG.recipient).startswith(self.recipient.lower(), autoescape=True))
        if self.since is not None:
            found.append(LOG.sent_at >= self.since)
        if self.until is not None:
            found.append(LOG.sent_at < self.until)
        return found


def _ids_of_ad(ad_id: int) -> sa.CompoundSelect[tuple[int]]:
    """Select the emails that say so themselves, and those of its notifications."""
    said = sa.select(LOG.id).where(_ad_of_email == str(ad_id))
    notified = sa.select(LOG.id).join(notifications, notifications.c.id == LOG.notification_id)
    return sa.union(said, notified.where(notifications.c.ad_id == ad_id))


async def newest(
    connection: AsyncConnection,
    wanted: LogFilter,
    *,
    limit: int,
    before_id: int | None = None,
    with_request: bool = False,
) -> list[dict[str, Any]]:
    """Return rows of the log, newest first.

    `status` is the state, `sent_at` is null for what is not sent, `about` names the ad or the subject.

    Args:
        before_id: only older rows than this one, for the next page.
        with_request: what was asked for, too, which may be large.
    """
    query = _select(*[LOG.request] * with_request).where(*wanted.conditions()).order_by(LOG.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(LOG.id < before_id)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def find(connection: AsyncConnection, id_: int) -> dict[str, Any] | None:
    """Return a row of the log, with its `request`."""
    query = _select(LOG.request).where(LOG.id == id_)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else dict(row)


async def ids_of_keys(connection: AsyncConnection, keys: Collection[str]) -> dict[str, int]:
    """Return the ids of the emails with these keys, by key."""
    found = await connection.execute(sa.select(LOG.key, LOG.id).where(LOG.key.in_(keys)))
    return {row.key: row.id for row in found}


async def counts(connection: AsyncConnection, wanted: LogFilter) -> dict[str, int]:
    """Return the number of emails in each state, of those that have any; sent ones of the newest `MAX_COUNTED` only."""
    newest_ones = sa.select(shown_state.label("state"), LOG.letter).where(*replace(wanted, kind=None).conditions())
    newest_ones = newest_ones.order_by(LOG.id.desc()).limit(MAX_COUNTED)
    scanned = newest_ones.subquery()
    sent = sa.select(sa.func.count()).where(scanned.c.state == "sent")
    if wanted.kind is not None:
        sent = sent.where(scanned.c.letter == wanted.kind)
    unsent = sa.select(shown_state, sa.func.count()).where(*wanted.conditions(), IS_UNSENT)
    found = {row[0]: row[1] for row in await connection.execute(unsent.group_by(sa.literal_column("1")))}
    if count := (await connection.execute(sent)).scalar_one():
        found["sent"] = count
    return found


def _select(*more: sa.Column[JSONB]) -> sa.Select[Any]:
    columns = (column.label(name) for name, column in _shown.items())
    return sa.select(*columns, shown_state.label("shown_state"), *more).select_from(_joined)
