"""What operators do with emails: send them again, and change the list of suppressed addresses. Each is recorded."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal
from uuid import uuid4

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.mail import log_search, suppressions
from consumers.mail.log_search import LogFilter
from pocketwatch.clock import utc_now
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import operator_actions, outbox
from pocketwatch.storage.operator_actions import Source
from pocketwatch.text import shorten
from schemas.envelope import Envelope
from schemas.mail import MailRequested, parse_address
from schemas.validation_errors import describe

MAX_RESENT = 1_000  # emails at a time
FINAL = ("failed", "unknown", "suppressed", "expired")  # of what was not delivered; the others are still on their way
RESENT = re.compile(r"(.*)#resend-(\d+)", re.DOTALL)  # a key
LONGEST_KEY = 600  # characters
Scope = Literal["all", "subscribed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resent:
    """What was requested again.

    Args:
        emails: the id and the new key of each.
        skipped: ids, with the reason why they cannot be sent again.
        is_complete: False when more match than are sent at a time.
    """

    emails: Mapping[int, str]
    skipped: Mapping[int, str]
    is_complete: bool = True


def next_key(key: str) -> str:
    """Return the key of the email that replaces one with this key, always the same.

    An email is the same email however often it is requested, so what is sent again is another one. Each has one
    successor: two operators who send it again at the same time send one email.
    """
    found = RESENT.fullmatch(key)
    base, number = (found[1], int(found[2])) if found else (key, 0)
    suffix = f"#resend-{number + 1}"
    return f"{base[: LONGEST_KEY - len(suffix)]}{suffix}"


async def resend(
    connection: AsyncConnection, id_: int, *, actor: str, source: Source, reason: str | None = None
) -> str:
    """Request an email again, whatever became of it, and return its new key.

    Raises:
        PocketwatchError: when it does not exist, is still to be sent, was sent again, or is not known well enough.
    """
    row = await log_search.find(connection, id_)
    if row is None:
        raise PocketwatchError(f"email {id_} does not exist; see: pocketwatch notices")
    successors = await log_search.ids_of_keys(connection, [next_key(row["key"] or "")])
    if (why := refusal(row, successors)) is not None:
        raise PocketwatchError(f"email {id_}: {why}")
    return await _request_again(connection, row, actor=actor, source=source, reason=reason)


async def resend_matching(
    connection: AsyncConnection, wanted: LogFilter, *, actor: str, source: Source, reason: str | None = None
) -> Resent:
    """Request again what was not delivered, newest first, up to a thousand; what was sent again before is left out.

    Raises:
        PocketwatchError: for states of emails that are still on their way, or were sent.
    """
    if not wanted.states or set(wanted.states) - set(FINAL):
        raise PocketwatchError(f"emails of states {', '.join(wanted.states)}: not sent again; use {', '.join(FINAL)}")
    found = await log_search.newest(connection, wanted, limit=MAX_RESENT + 1, with_request=True)
    rows = found[:MAX_RESENT]
    successors = await log_search.ids_of_keys(connection, [next_key(row["key"] or "") for row in rows])
    emails, skipped = {}, {}
    for row in rows:
        if (why := refusal(row, successors)) is not None:
            skipped[row["id"]] = why
        else:
            emails[row["id"]] = await _request_again(connection, row, actor=actor, source=source, reason=reason)
    return Resent(emails=emails, skipped=skipped, is_complete=len(found) <= MAX_RESENT)


def related_keys(key: str | None) -> list[str]:
    """Return the keys of the email that this one replaces, if any, and of the one that replaces it."""
    if key is None:
        return []
    found = RESENT.fullmatch(key)
    before = [] if found is None else [found[1] if found[2] == "1" else f"{found[1]}#resend-{int(found[2]) - 1}"]
    return [*before, next_key(key)]


def refusal(row: Mapping[str, Any], successors: Mapping[str, int] = MappingProxyType({})) -> str | None:
    """Return why an email cannot be sent again; None if it can.

    Args:
        row: of the log, with `request`.
        successors: ids of emails by key, where it replaces others.
    """
    if row["method"] != "email" or row["key"] is None:
        return "not sent by the suite, so its content is not known"
    if row["request"] is None:
        return "requested before the suite kept the content of emails; cause it again"
    if row["shown_state"] not in (*FINAL, "sent"):
        return f"{row['shown_state']}: it is still going to be sent"
    if row["digest"] not in (None, row["key"]) and row["shown_state"] != "sent":
        return f"part of the digest {row['digest']}; send that one again"
    if (successor := successors.get(next_key(row["key"]))) is not None:
        return f"sent again before, as email {successor}"
    return None


async def _request_again(
    connection: AsyncConnection, row: Mapping[str, Any], *, actor: str, source: Source, reason: str | None
) -> str:
    request = _request_of(row)
    name = str(uuid4())
    envelope = Envelope(
        message_id=name, correlation_id=name, exchange=MailRequested.exchange, routing_key=MailRequested.routing_key
    )
    table, values = outbox.of(envelope, request.payload())
    await connection.execute(sa.insert(table), values)
    await operator_actions.record(
        connection,
        actor=actor,
        source=source,
        action="email.resend",
        target=row["key"],
        reason=reason,
        before={"email": row["id"], "recipient": row["recipient"], "state": row["shown_state"]},
        after={"key": request.key},
    )
    assert request.key is not None  # noqa: S101  `_request_of` sets it
    return request.key


def _request_of(row: Mapping[str, Any]) -> MailRequested:
    """Return the request for the same email under its next key, worth sending from now on."""
    stored = {
        **row["request"],
        "to": row["recipient"],
        "locale": row["locale"],
        "notification_id": row["notification_id"],
        "key": next_key(row["key"]),
        "expires_at": None,
    }
    try:
        request = MailRequested.model_validate_json(json.dumps(stored))
    except ValidationError as error:
        raise PocketwatchError(f"email {row['id']}: {describe(error, MailRequested)}; cause it again") from error
    return request.model_copy(update={"expires_at": utc_now() + request.letter.lifetime})


async def suppress(
    connection: AsyncConnection, address: str, *, scope: Scope, reason: str, actor: str, source: Source
) -> str:
    """Send no emails to an address from now on; return it in lower case.

    Args:
        scope: `all`, or `subscribed` for digests and reports only.

    Raises:
        PocketwatchError: when it is not an email address, or is suppressed already.
    """
    parsed = parse_address(address)
    if parsed is None:
        raise PocketwatchError(f'"{shorten(address, 100)}" is not an email address; write it as name@example.com')
    parsed = parsed.lower()
    if not reason.strip():
        raise PocketwatchError("a reason is missing; say why the address is suppressed")
    if scope in await suppressions.scopes_of(connection, parsed):
        raise PocketwatchError(f"{parsed} is suppressed already, for {scope}")
    await suppressions.add(connection, {parsed: reason.strip()}, scope=scope)
    await operator_actions.record(
        connection,
        actor=actor,
        source=source,
        action="email.suppress",
        target=parsed,
        reason=reason.strip(),
        after={"scope": scope},
    )
    return parsed


async def unsuppress(
    connection: AsyncConnection, address: str, *, reason: str | None, actor: str, source: Source
) -> list[str]:
    """Remove an address from the suppressed ones, and return the scopes it had.

    Raises:
        PocketwatchError: when it is not suppressed.
    """
    scopes = sorted(await suppressions.remove(connection, address))
    if not scopes:
        raise PocketwatchError(f'"{shorten(address, 100)}" is not suppressed; see: pocketwatch mail suppressed')
    await operator_actions.record(
        connection,
        actor=actor,
        source=source,
        action="email.unsuppress",
        target=address.lower(),
        reason=reason,
        before={"scopes": scopes},
    )
    return scopes
