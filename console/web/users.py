"""Users of the console: added, listed and removed by `pocketwatch web user`."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from console.web.access.identity import Role
from console.web.access.passwords import MAX_LENGTH, MIN_LENGTH, hash_password
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import operator_actions
from pocketwatch.storage.operator_actions import Source
from pocketwatch.storage.tables.suite import web_users

LONGEST_NAME = 150  # characters
NAMED = web_users.c.name == sa.bindparam("which")


async def add(connection: AsyncConnection, name: str, password: str, *, role: Role, actor: str, source: Source) -> None:
    """Add a user.

    Raises:
        PocketwatchError: when there is one of this name, or the name or the password cannot be used.
    """
    if not name.isprintable() or name != name.strip() or not 0 < len(name) <= LONGEST_NAME:
        raise PocketwatchError(f'user "{name}": not a name; use 1 to {LONGEST_NAME} characters on one line')
    if await _role_of(connection, name) is not None:
        raise PocketwatchError(f'user "{name}" exists already; change it with: pocketwatch web user password {name}')
    values = {"name": name, "password": hash_password(checked(password)), "role": role}
    await connection.execute(sa.insert(web_users), values)
    await operator_actions.record(
        connection, actor=actor, source=source, action="web.user_add", target=name, after={"role": role}
    )


async def listed(connection: AsyncConnection) -> list[dict[str, Any]]:
    columns = web_users.c
    rows = await connection.execute(
        sa.select(columns.name, columns.role, columns.created_at, columns.changed_at).order_by(columns.name)
    )
    return [dict(row) for row in rows.mappings()]


async def remove(connection: AsyncConnection, name: str, *, actor: str, source: Source) -> None:
    """Remove a user, whose sessions end.

    Raises:
        PocketwatchError: when no user has this name.
    """
    role = await _known(connection, name)
    await connection.execute(sa.delete(web_users).where(NAMED), {"which": name})
    await operator_actions.record(
        connection, actor=actor, source=source, action="web.user_remove", target=name, before={"role": role}
    )


async def change(
    connection: AsyncConnection,
    name: str,
    *,
    password: str | None = None,
    role: Role | None = None,
    actor: str,
    source: Source,
) -> None:
    """Change a user's password or role; their sessions end.

    Raises:
        PocketwatchError: when no user has this name, or the password cannot be used.
    """
    before = await _known(connection, name)
    values: dict[str, Any] = {"changed_at": sa.func.now()}
    if password is not None:
        values["password"] = hash_password(checked(password))
    if role is not None:
        values["role"] = role
    await connection.execute(sa.update(web_users).where(NAMED).values(values), {"which": name})
    action, roles = ("web.user_password", None) if role is None else ("web.user_role", {"role": role})
    old = None if role is None else {"role": before}
    await operator_actions.record(
        connection, actor=actor, source=source, action=action, target=name, before=old, after=roles
    )


def checked(password: str) -> str:
    """Return a password that is long enough.

    Raises:
        PocketwatchError: when it is not.
    """
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise PocketwatchError(f"the password has {len(password)} characters; use {MIN_LENGTH} to {MAX_LENGTH}")
    return password


async def _known(connection: AsyncConnection, name: str) -> str:
    if (role := await _role_of(connection, name)) is None:
        raise PocketwatchError(f'user "{name}" does not exist; see: pocketwatch web user list')
    return role


async def _role_of(connection: AsyncConnection, name: str) -> str | None:
    role: str | None = (
        await connection.execute(sa.select(web_users.c.role).where(NAMED), {"which": name})
    ).scalar_one_or_none()
    return role
