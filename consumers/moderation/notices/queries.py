"""The SQL of notices: who reads them, and what the ads are called; each question is asked once for a whole group."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from consumers.moderation.notices.actions import canonical
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
# One row for all of them, under a constant key, so that a group asks once; as text, which `_managers` reads once.
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
EVERYBODY = "all"


# As many ids as the key says before its colon.
@dataclass(frozen=True, slots=True)
class Manager:
    """An active manager, and what he wants to hear.

    Args:
        actions: in our vocabulary; empty: all.
        is_malformed: his settings hold no list of actions; he is told everything.
        reads_info_table: by his own preferences.
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
        """Where his letters go."""
        return self.override.strip() or self.own_address

    def wants(self, action: str) -> bool:
        """Whether he wants to hear of this action."""
        return not self.actions or canonical(action) in self.actions


async def managers(event: EventContext) -> tuple[Manager, ...]:
    """All active managers whose settings are active, by id."""
    found = await event.load(MANAGERS, EVERYBODY)
    return () if found is None else _managers(found.managers)


@lru_cache(maxsize=4)  # the messages of a group, and often many groups, have the same managers
def _managers(listed: str) -> tuple[Manager, ...]:
    return tuple(_manager(row) for row in json.loads(listed))


def _manager(row: Mapping[str, Any]) -> Manager:
    wanted = row["actions"]
    named = [name for name in wanted if isinstance(name, str)] if isinstance(wanted, list) else []
    is_malformed = not isinstance(wanted, list) or len(named) < len(wanted)
    return Manager(**{**row, "actions": frozenset(map(canonical, named)), "is_malformed": is_malformed})
