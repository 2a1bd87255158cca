"""The SQL of archiving ads and restoring them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.tables.suite import moderation_decisions

LAST_AD = sa.text("SELECT coalesce(max(id), 0) FROM car_ads")
# A page is bounded by the rows it reads, not by those it finds: otherwise a rare match would make a long statement.
PAGE = sa.text(
    "SELECT coalesce(max(id), :until), count(*), count(*) FILTER (WHERE status = 'active' AND changed_at IS NULL) "
    "FROM (SELECT id, status, coalesce(updated_at, created_at) AS changed_at FROM car_ads "
    "WHERE id > :after AND id <= :until ORDER BY id LIMIT :size) AS page"
)
CANDIDATES = sa.text(
    "SELECT id, status, coalesce(updated_at, created_at) AS changed_at, EXISTS ("
    "SELECT FROM moderation_decisions AS decision WHERE decision.ad_id = car_ads.id AND decision.action = 'restored' "
    "AND decision.to_status = car_ads.status AND decision.decided_at >= :before) AS restored "
    "FROM car_ads WHERE id > :after AND id <= :last AND (status IN ('sold', 'rejected') "
    "OR (status = 'active' AND coalesce(updated_at, created_at) < :before)) ORDER BY id"
)
# Ads that were edited since the page was read, or that another session holds, are skipped. The lock does not block
# inserts of views, which reference the ad. `updated_at` is set, as by every change that Django saves, because readers
# follow changes by it; its former value is kept in the decision.
ARCHIVE = sa.text("""
WITH chosen AS (
  SELECT * FROM unnest(CAST(:ids AS bigint[]), CAST(:statuses AS text[]), CAST(:changes AS timestamptz[]))
  AS chosen (id, status, changed_at)
), held AS (
  SELECT ad.id, ad.status, ad.updated_at, chosen.changed_at FROM car_ads AS ad JOIN chosen ON chosen.id = ad.id
  WHERE ad.status = chosen.status AND coalesce(ad.updated_at, ad.created_at) IS NOT DISTINCT FROM chosen.changed_at
  ORDER BY ad.id FOR NO KEY UPDATE OF ad SKIP LOCKED
), archived AS (
  UPDATE car_ads SET status = 'archived', is_validated = false, updated_at = now() FROM held
  WHERE car_ads.id = held.id AND car_ads.status = held.status
  RETURNING held.id, held.status, held.updated_at, held.changed_at
)
INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor, message_id, details)
SELECT id, 'archived', status, 'archived', CASE status
    WHEN 'sold' THEN 'it was sold'
    WHEN 'rejected' THEN 'it was rejected'
    ELSE 'no change since ' || to_char(changed_at, 'YYYY-MM-DD') || ', for more than ' || :days || ' days'
  END, :actor, :message_id, jsonb_build_object('updated_at', updated_at)
FROM archived ORDER BY id RETURNING from_status
""").bindparams(sa.bindparam("days", type_=sa.Text), sa.bindparam("actor", type_=sa.Text))


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ad that may be archived, as the page found it.

    Args:
        changed_at: the moment of its last change, or of its creation.
        restored: a user restored it recently.
    """

    id: int
    status: str
    changed_at: datetime | None
    restored: bool


@dataclass(frozen=True, slots=True)
class AdPage:
    last_id: int
    scanned: int
    undated: int  # active, without a known moment of change
    candidates: list[Candidate]


async def last_ad_id(connection: AsyncConnection) -> int:
    return int((await connection.execute(LAST_AD)).scalar_one())


async def ads_after(connection: AsyncConnection, after: int, *, until: int, limit: int, before: datetime) -> AdPage:
    """Read the next page of ads, by id.

    Args:
        before: active ads without a change since then, and not restored since then, may be archived.
    """
    page = await connection.execute(PAGE, {"after": after, "until": until, "size": limit})
    last, scanned, undated = page.one()
    found = await connection.execute(CANDIDATES, {"after": after, "last": last, "before": before})
    return AdPage(last, scanned, undated, [Candidate(*row) for row in found])


async def archive_ads(
    connection: AsyncConnection, ads: Sequence[Candidate], *, days: int, actor: str, message_id: str
) -> list[str]:
    """Archive those of these ads that are neither locked nor edited, and return their former statuses."""
    values = {
        "ids": [ad.id for ad in ads],
        "statuses": [ad.status for ad in ads],
        "changes": [ad.changed_at for ad in ads],
        "days": str(days),
        "actor": actor,
        "message_id": message_id,
    }
    return list((await connection.execute(ARCHIVE, values)).scalars())


STATUS_OF = sa.text("SELECT status FROM car_ads WHERE id = :id FOR NO KEY UPDATE")
RESTORE = sa.text(
    "UPDATE car_ads SET status = :status, is_validated = (:status = 'active'), updated_at = now() WHERE id = :id"
).bindparams(sa.bindparam("status", type_=sa.String))

ARCHIVINGS = sa.text(
    "SELECT decision.ad_id, decision.decided_at, decision.from_status, car_ads.status AS status_now, decision.reason, "
    "decision.actor, decision.message_id FROM moderation_decisions AS decision "
    "LEFT JOIN car_ads ON car_ads.id = decision.ad_id WHERE decision.action = 'archived' "
    "ORDER BY decision.id DESC LIMIT :size"
)


async def lock_ad(connection: AsyncConnection, ad_id: int) -> str | None:
    """Lock an ad until the transaction ends and return its status; None when there is no such ad."""
    return (await connection.execute(STATUS_OF, {"id": ad_id})).scalar()


async def last_decision(connection: AsyncConnection, ad_id: int) -> dict[str, Any] | None:
    query = sa.select(moderation_decisions).where(moderation_decisions.c.ad_id == ad_id)
    found = await connection.execute(query.order_by(moderation_decisions.c.id.desc()).limit(1))
    return next((dict(row) for row in found.mappings()), None)


async def restore(connection: AsyncConnection, ad_id: int, *, status: str, reason: str, actor: str) -> None:
    await connection.execute(RESTORE, {"id": ad_id, "status": status})
    decision = {"ad_id": ad_id, "action": "restored", "from_status": "archived", "to_status": status}
    await connection.execute(sa.insert(moderation_decisions), {**decision, "reason": reason, "actor": actor})


async def archivings(connection: AsyncConnection, *, limit: int) -> list[dict[str, Any]]:
    """Return the latest archivings, newest first, each with its ad's present status (None: deleted)."""
    return [dict(row) for row in (await connection.execute(ARCHIVINGS, {"size": limit})).mappings()]
