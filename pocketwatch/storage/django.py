"""Django's record of its migrations, for the apps whose tables the suite creates where Django has not."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage.database import Database, sqlstate
from pocketwatch.storage.locks import INSUFFICIENT_PRIVILEGE
from pocketwatch.storage.migrate import serialized

# Each app, and the app on which its first migration depends: for notices that of the users, to whom they refer. Were it
# recorded before that one, every `manage.py migrate` would fail.
NEEDS = {"currency": None, "moderation": "users"}
FIRST = "0001_initial"
REMEDY = "manage.py migrate --fake-initial"

HAS_RECORD = sa.text("SELECT to_regclass('django_migrations') IS NOT NULL")
UNRECORDED = sa.text("""
    SELECT app FROM unnest(CAST(:apps AS text[])) AS app
    WHERE app NOT IN (SELECT django_migrations.app FROM django_migrations) ORDER BY app
""")
IS_RECORDED = sa.text("SELECT EXISTS (SELECT FROM django_migrations WHERE app = :app AND name = :name)")
RECORD = sa.text("INSERT INTO django_migrations (app, name, applied) VALUES (:app, :name, now())")


@dataclass(frozen=True)
class Recorded:
    """Apps whose first migration was recorded as applied, and those for which that was not possible."""

    done: list[str]
    left: list[str]


@dataclass(frozen=True)
class Unrecorded:
    """Apps of which Django knows no migration: those that it could migrate next, and those that need another first."""

    next: list[str]
    later: list[str]


async def record_first_migrations(database: Database) -> Recorded:
    """Record the first migration of each app of which Django knows none, as its own `migrate --fake-initial` does.

    The tables exist, so that Django would fail to create them. Nothing is recorded where Django has never migrated.
    """
    try:
        async with serialized(database) as connection:
            return await _record(connection)
    except DBAPIError as error:
        if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
            raise
        return Recorded([], sorted(NEEDS))


async def unrecorded(connection: AsyncConnection) -> Unrecorded:
    """Return the apps of which Django, where it has migrated, knows no migration.

    Raises:
        DBAPIError: if this user may not read Django's record.
    """
    apps = Unrecorded([], [])
    if not (await connection.execute(HAS_RECORD)).scalar_one():
        return apps
    for app in (await connection.execute(UNRECORDED, {"apps": sorted(NEEDS)})).scalars().all():
        needed = NEEDS[app]
        is_next = needed is None or (await connection.execute(IS_RECORDED, {"app": needed, "name": FIRST})).scalar_one()
        (apps.next if is_next else apps.later).append(app)
    return apps


async def _record(connection: AsyncConnection) -> Recorded:
    apps = await unrecorded(connection)
    for app in apps.next:
        await connection.execute(RECORD, {"app": app, "name": FIRST})
    return Recorded(apps.next, apps.later)
