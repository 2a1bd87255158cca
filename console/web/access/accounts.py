"""Accounts that sign in with a password: users of the console, and the platform's staff."""

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from console.web.access.identity import Role

Method = Literal["users", "staff"]
USER = sa.text("SELECT name, password, role FROM web_users WHERE name = :name")
# An index serves both comparisons; Django keeps the case of what is before the @.
STAFF = sa.text("""
    SELECT email AS name, password, CASE WHEN is_superuser THEN 'operator' ELSE 'viewer' END AS role
    FROM auth_user WHERE (email = :name OR email = lower(:name)) AND is_active AND (is_staff OR is_superuser)
    ORDER BY email = :name DESC LIMIT 1
""")
QUERIES = {"users": USER, "staff": STAFF}


@dataclass(frozen=True, slots=True)
class Account:
    method: Method
    name: str
    password: str  # its hash
    role: Role


async def find(connection: AsyncConnection, method: Method, name: str) -> Account | None:
    """Return an account that may sign in; of the platform's, only active staff may."""
    row = (await connection.execute(QUERIES[method], {"name": name})).first()
    return None if row is None else Account(method, row.name, row.password, row.role)
