"""The SQL of notices; each query runs once for a whole batch of messages."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from consumers.moderation.notices.actions import normalize_action
from pocketwatch.worker.context import BatchQuery, EventContext
from schemas.locale import Locale

AD = BatchQuery(
    "SELECT ad.id, ad.title, account.user_id AS owner_id FROM car_ads AS ad "
    "JOIN add_accounts AS account ON account.id = ad.account_id WHERE ad.id = ANY(:keys)"
)
OWNER = BatchQuery(
    "SELECT owner.id, owner.email, owner.is_active, preferences.locale, "
    """coalesce(preferences.channels @> '"info_table"', true) AS reads_info_table FROM auth_user AS owner """
    "LEFT JOIN notification_preferences AS preferences ON preferences.user_id = owner.id WHERE owner.id = ANY(:keys)"
)
STAFF = BatchQuery("SELECT id, is_active, is_staff FROM auth_user WHERE id = ANY(:keys)")
# One row for all managers, under a constant key, so that a batch queries once; as text, which `_managers` caches.
MANAGERS = BatchQuery("""
SELECT key, (
  SELECT CAST(coalesce(jsonb_agg(jsonb_build_object(
      'id', manager.id, 'settings_id', settings.id, 'own_address', manager.email, 'override', settings.email_address,
      'email_enabled', settings.email_enabled, 'info_table_enabled', settings.info_table_enabled,
      'actions', settings.notify_for_actions, 'locale', preferences.locale,
      'reads_info_table', coalesce(preferences.channels @> '"info_table"', true)
    ) ORDER BY manager.id, settings.id), '[]') AS text)
  FROM moderation_manager_notification_settings AS settings
  JOIN auth_user AS manager ON manager.id = settings.manager_id
  LEFT JOIN notification_preferences AS preferences ON preferences.user_id = manager.id
  WHERE settings.is_active AND manager.is_active AND manager.is_staff
) AS managers FROM unnest(CAST(:keys AS text[])) AS key
""")
ALL_MANAGERS = "all"


@dataclass(frozen=True, slots=True)
class Manager:
    """An active manager with active notification settings.

    Args:
        override: the address of the settings, which replaces `own_address` unless it is empty.
        actions: canonical names of the subscribed actions; empty for all.
        is_malformed: the settings hold no list of actions, so the manager is subscribed to all that can be read.
        reads_info_table: by the manager's own preferences.
    """

    id: int
    settings_id: int
    own_address: str
    override: str
    email_enabled: bool
    info_table_enabled: bool
    actions: frozenset[str]
    is_malformed: bool
    locale: Locale | None
    reads_info_table: bool

    @property
    def address(self) -> str:
        return self.override.strip() or self.own_address

    def is_subscribed(self, action: str) -> bool:
        return not self.actions or normalize_action(action) in self.actions


async def managers(event: EventContext) -> tuple[Manager, ...]:
    found = await event.load(MANAGERS, ALL_MANAGERS)
    return () if found is None else _managers(found.managers)


@lru_cache(maxsize=4)  # the messages of a batch, and often of many batches, have the same managers
def _managers(rows: str) -> tuple[Manager, ...]:
    return tuple(_manager(row) for row in json.loads(rows))


def _manager(row: Mapping[str, Any]) -> Manager:
    actions = row["actions"]
    named = [name for name in actions if isinstance(name, str)] if isinstance(actions, list) else []
    is_malformed = not isinstance(actions, list) or len(named) < len(actions)
    return Manager(**{**row, "actions": frozenset(map(normalize_action, named)), "is_malformed": is_malformed})
