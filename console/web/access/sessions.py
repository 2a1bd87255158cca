"""Sessions: a signed, expiring token in a cookie that no script can read.

A session also ends when the account's password or role changes, when the account is removed, and by signing out: the
recorded sign-out is what ends it, in every process.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import get_args
from uuid import uuid4

import jwt
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from console.web.access import accounts
from console.web.access.accounts import Account, Method
from pocketwatch.clock import utc_now

COOKIE = "pocketwatch_session"
ALGORITHM, AUDIENCE = "HS256", "pocketwatch web"
SIGNED_IN, SIGNED_OUT = "web.sign_in", "web.sign_out"  # in operator_actions
HAS_ENDED = sa.text("SELECT EXISTS (SELECT FROM operator_actions WHERE target = :target AND action = :action)")


@dataclass(frozen=True, slots=True)
class Session:
    """What a valid token says; whether it has ended, the database says."""

    id: str
    method: Method
    name: str
    account: str  # a fingerprint of password and role

    @property
    def target(self) -> str:
        """What the rows of operator_actions call it."""
        return f"session {self.id}"


class Sessions:
    def __init__(self, key: bytes, lifetime: timedelta) -> None:
        self._key, self.lifetime = key, lifetime

    def issue(self, account: Account) -> tuple[str, Session]:
        """Return a new token, and what it says."""
        session = Session(uuid4().hex, account.method, account.name, self._fingerprint(account))
        claims = {"jti": session.id, "amr": session.method, "sub": session.name, "acc": session.account}
        now = utc_now()
        times = {"iat": now, "exp": now + self.lifetime, "aud": AUDIENCE}
        return jwt.encode({**claims, **times}, self._key, ALGORITHM), session

    def read(self, token: str) -> Session | None:
        """Return what a token says; None when it is expired, or was not issued here."""
        required = ["jti", "amr", "sub", "acc", "exp"]
        try:
            claims = jwt.decode(token, self._key, [ALGORITHM], audience=AUDIENCE, options={"require": required})
        except jwt.InvalidTokenError:
            return None
        if claims["amr"] not in get_args(Method):
            return None
        return Session(claims["jti"], claims["amr"], claims["sub"], claims["acc"])

    async def account_of(self, connection: AsyncConnection, session: Session) -> Account | None:
        """Return the account of a session that has not ended."""
        account = await accounts.find(connection, session.method, session.name)
        if account is None or not hmac.compare_digest(self._fingerprint(account), session.account):
            return None
        ended = await connection.execute(HAS_ENDED, {"target": session.target, "action": SIGNED_OUT})
        return None if ended.scalar_one() else account

    def _fingerprint(self, account: Account) -> str:
        text = f"{account.method}\n{account.name}\n{account.role}\n{account.password}"
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()[:32]
