"""The SQL of reviews."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.moderation.review.ad import MAX_REVIEWED_LENGTH, MAX_REVIEWED_TITLE, Ad, AdContent, History, Owner
from consumers.moderation.review.decisions import COUNTED, STATUS_AFTER, WINDOW, Decision
from pocketwatch.storage.tables.suite import moderation_decisions
from schemas.locale import DEFAULT_LOCALE, Locale

# A price may be NaN, which does not even equal itself. `dynamic_fields` should be an object, but holds whatever the
# platform's forms let through, with texts or numbers in it.
CONTENT = (
    f"left(ad.title, {MAX_REVIEWED_TITLE + 1}) AS title, "
    f"left(ad.description, {MAX_REVIEWED_LENGTH + 1}) AS description, nullif(ad.price, 'NaN') AS price, "
    "left(ad.currency, 40) AS currency, left(ad.dynamic_fields ->> 'year', 40) AS year, "
    "left(ad.dynamic_fields ->> 'mileage', 40) AS mileage"
)
AD = sa.text(
    "SELECT ad.id, ad.status, ad.needs_manual_review, ad.moderated_by_id IS NOT NULL AS by_person, "
    f"account.user_id AS owner_id, {CONTENT} FROM car_ads AS ad "
    "JOIN add_accounts AS account ON account.id = ad.account_id WHERE ad.id = :id"
)
LOCKED_AD = sa.text(f"{AD.text} FOR NO KEY UPDATE OF ad")  # does not block inserts of views, which refer to the ad
OWNER = sa.text(
    "SELECT is_active AND is_superuser AS is_superuser, is_active AND is_staff AS is_staff, preferences.locale "
    "FROM auth_user LEFT JOIN notification_preferences AS preferences ON preferences.user_id = auth_user.id "
    "WHERE auth_user.id = :id"
)
# Django's permission tables; where they do not exist, no user has a permission.
PERMISSION_TABLES = (
    "auth_permission",
    "django_content_type",
    "auth_user_user_permissions",
    "auth_user_groups",
    "auth_group_permissions",
)
HAS_PERMISSIONS = sa.text("SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest(CAST(:names AS text[])) AS name")
MAY_BYPASS = sa.text("""
SELECT EXISTS (
  SELECT FROM auth_permission AS permission
  JOIN django_content_type AS type ON type.id = permission.content_type_id
  JOIN auth_user ON auth_user.id = :id AND auth_user.is_active
  WHERE permission.codename = 'can_bypass_moderation' AND type.app_label = 'ads' AND (
    EXISTS (SELECT FROM auth_user_user_permissions AS own
      WHERE own.permission_id = permission.id AND own.usermodel_id = :id)
    OR EXISTS (SELECT FROM auth_user_groups AS member
      JOIN auth_group_permissions AS granted ON granted.group_id = member.group_id
      WHERE granted.permission_id = permission.id AND member.usermodel_id = :id)))
""")
HISTORY = sa.text("""
SELECT last.action, last.to_status, last.content_hash, last.rules_version, attempts.used, attempts.is_counted FROM (
  SELECT count(DISTINCT content_hash) AS used, coalesce(bool_or(content_hash = :hash), false) AS is_counted
  FROM moderation_decisions WHERE ad_id = :id AND action = ANY(:counted) AND decided_at > now() - :window
) AS attempts LEFT JOIN (
  SELECT action, to_status, content_hash, rules_version
  FROM moderation_decisions WHERE ad_id = :id AND action = ANY(:actions) ORDER BY id DESC LIMIT 1
) AS last ON true
""").bindparams(sa.bindparam("window", type_=sa.Interval))
# `is_validated`, by which the platform counts ads, goes with the status. `moderated_by_id` is null where no person has
# decided. An ad that awaits a manual review keeps its place in the queue.
APPLY_DECISION = sa.text("""
UPDATE car_ads SET status = :status, is_validated = (:status = 'active'), moderated_at = now(), moderated_by_id = NULL,
  moderation_reason = :reason, auto_moderation_attempts = :attempts, needs_manual_review = :review, updated_at = now(),
  manual_review_requested_at = CASE WHEN :review THEN
    CASE WHEN needs_manual_review THEN coalesce(manual_review_requested_at, now()) ELSE now() END END
WHERE id = :id
""").bindparams(sa.bindparam("status", type_=sa.String), sa.bindparam("review", type_=sa.Boolean))
DECISIONS = (
    sa.select(moderation_decisions)
    .where(moderation_decisions.c.ad_id == sa.bindparam("id"))
    .order_by(moderation_decisions.c.id)
)


async def ad(connection: AsyncConnection, ad_id: int) -> Ad | None:
    return _ad((await connection.execute(AD, {"id": ad_id})).one_or_none())


async def lock_ad(connection: AsyncConnection, ad_id: int) -> Ad | None:
    return _ad((await connection.execute(LOCKED_AD, {"id": ad_id})).one_or_none())


async def owner(connection: AsyncConnection, user_id: int, *, locale: Locale | None) -> Owner:
    """Return an owner; `locale` precedes that of their preferences."""
    found = (await connection.execute(OWNER, {"id": user_id})).one()
    return Owner(await _bypass(connection, user_id, found), locale or found.locale or DEFAULT_LOCALE)


async def history(connection: AsyncConnection, reviewed: Ad) -> History:
    """Return earlier decisions about this ad; while it is locked, no other can be made."""
    values = {
        "id": reviewed.id,
        "hash": reviewed.content.hash,
        "window": WINDOW,
        "counted": list(COUNTED),
        "actions": list(STATUS_AFTER),
    }
    return History(*(await connection.execute(HISTORY, values)).one())


async def apply_decision(connection: AsyncConnection, reviewed: Ad, decision: Decision) -> None:
    values = {
        "id": reviewed.id,
        "status": decision.to_status,
        "reason": "\n".join(decision.judgement.reasons),
        "attempts": decision.attempts,
        "review": decision.verdict == "review",
    }
    await connection.execute(APPLY_DECISION, values)


async def decisions(connection: AsyncConnection, ad_id: int) -> list[dict[str, Any]]:
    found = await connection.execute(DECISIONS, {"id": ad_id})
    return [dict(row) for row in found.mappings()]


async def _bypass(connection: AsyncConnection, user_id: int, found: sa.Row[Any]) -> str | None:
    if found.is_superuser:
        return "superuser"
    if found.is_staff:
        return "staff"
    if not (await connection.execute(HAS_PERMISSIONS, {"names": list(PERMISSION_TABLES)})).scalar_one():
        return None
    may_bypass = (await connection.execute(MAY_BYPASS, {"id": user_id})).scalar_one()
    return "permission ads.can_bypass_moderation" if may_bypass else None


def _ad(found: sa.Row[Any] | None) -> Ad | None:
    if found is None:
        return None
    return Ad(found.id, found.status, found.needs_manual_review, found.by_person, found.owner_id, content_of(found))


def content_of(found: sa.Row[Any]) -> AdContent:
    return AdContent(found.title, found.description, found.price, found.currency, found.year, found.mileage)
