"""The SQL of a replay: it reads only, and no statement of it runs for long."""

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.moderation.review.ad import Words
from consumers.moderation.review.decisions import STATUS_AFTER
from consumers.moderation.review.queries import SAID, said
from pocketwatch.storage.locks import milliseconds

LONGEST = timedelta(seconds=30)
READ_ONLY = sa.text("SET TRANSACTION READ ONLY")
SET_LONGEST = sa.text("SELECT set_config('statement_timeout', :timeout, true)")
NEWEST = sa.text("SELECT coalesce(max(id), 0) + 1 FROM car_ads")
PAGE = sa.text(
    f"SELECT ad.id, last.decided, {SAID} FROM car_ads AS ad LEFT JOIN LATERAL ("
    "SELECT CASE WHEN starts_with(actor, 'bypass:') THEN 'bypass' "
    "WHEN starts_with(actor, 'rules ') OR action IN ('approve', 'max_attempts_reached') THEN action "
    "ELSE 'doubt' END AS decided "
    "FROM moderation_decisions WHERE ad_id = ad.id AND action = ANY(:ours) ORDER BY id DESC LIMIT 1) AS last ON true "
    "WHERE ad.id < :before AND coalesce(ad.updated_at, ad.created_at) >= now() - :since ORDER BY ad.id DESC LIMIT :size"
).bindparams(sa.bindparam("since", type_=sa.Interval))


@dataclass(frozen=True)
class Decided:
    """An ad, and the last decision about it.

    Args:
        decision: its action; `bypass` for an owner whom nobody moderates; `doubt` for what the rules had nothing
            against and a person had to look at all the same; None where there is none.
    """

    ad_id: int
    decision: str | None
    words: Words


async def only_read(connection: AsyncConnection) -> None:
    """This transaction changes nothing, whoever asks it to, and gives up a statement that takes long."""
    await connection.execute(READ_ONLY)
    await connection.execute(SET_LONGEST, {"timeout": milliseconds(LONGEST)})


async def beyond_newest(connection: AsyncConnection) -> int:
    """An id that is greater than all."""
    return int((await connection.execute(NEWEST)).scalar_one())


async def ads_before(connection: AsyncConnection, before: int, *, since: timedelta, limit: int) -> list[Decided]:
    """The next ads, newest first, of those that were changed within the last `since`."""
    values = {"before": before, "since": since, "size": limit, "ours": list(STATUS_AFTER)}
    found = await connection.execute(PAGE, values)
    return [Decided(row.id, row.decided, said(row)) for row in found]
