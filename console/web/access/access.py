"""Who sends a request, and whether a form is one of the console's.

Without a configured sign-in, the console listens on the loopback only, and each client acts as the user of the
process. With one, it is an account with a password, or a name in a header of a trusted proxy.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from ipaddress import ip_address

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from console.web.access import accounts, identity, passwords
from console.web.access.accounts import Account, Method
from console.web.access.identity import Identity
from console.web.access.rate_limit import AttemptLimit
from console.web.access.sessions import COOKIE, SIGNED_IN, SIGNED_OUT, Session, Sessions
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Web
from pocketwatch.storage import operator_actions
from pocketwatch.storage.database import Database, is_outage

FAILED, LIMITED, PROXY_REFUSED = "web.sign_in_failed", "web.sign_in_limited", "web.proxy_refused"
LONGEST_NAME = 254  # characters; an email address
FORWARDED = ("x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded")
BEHIND_A_PROXY = "a proxy forwards to a console without a sign-in; set POCKETWATCH_WEB_SIGN_IN"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The token of a new session."""

    token: str
    account: Account


class Access:
    """Says who sends a request, issues sessions, and issues and checks the tokens of forms."""

    def __init__(self, settings: Web, database: Database) -> None:
        self._settings, self._database = settings, database
        secret = settings.secret_key
        key = secrets.token_bytes(32) if secret is None else secret.get_secret_value().encode()
        self._form_key = hashlib.sha256(b"forms\n" + key).digest()
        self._sessions = Sessions(hashlib.sha256(b"sessions\n" + key).digest(), settings.session_lifetime)
        self._limit = AttemptLimit()

    @property
    def lifetime(self) -> int:
        """Seconds that a session lasts."""
        return int(self._sessions.lifetime.total_seconds())

    @property
    def methods(self) -> list[Method]:
        """The kinds of accounts that sign in with a password, in the order in which they are tried."""
        return [method for method in ("users", "staff") if method in self._settings.sign_in]

    async def identify(self, request: HTTPConnection) -> Identity | None:
        """Return who sends the request; None when they have to sign in.

        Raises:
            HTTPException: when a proxy that is not trusted says who it is (403).
        """
        if not self._settings.sign_in:
            if any(name in request.headers for name in FORWARDED):
                raise HTTPException(403, BEHIND_A_PROXY)
            return identity.of_process()
        if "proxy" in self._settings.sign_in and self._settings.proxy_header in request.headers:
            return self._named_by_proxy(request)
        session = self._sessions.read(request.cookies.get(COOKIE, ""))
        if session is None or session.method not in self._settings.sign_in:
            return None
        return await self._signed_in(session)

    def _named_by_proxy(self, request: HTTPConnection) -> Identity:
        names = request.headers.getlist(self._settings.proxy_header)
        name = names[0].strip()
        if not self.is_from_proxy(request):
            logger.bind(name=name, address=peer_of(request)).warning(PROXY_REFUSED)
            raise HTTPException(403, "this address is not a trusted proxy; see POCKETWATCH_WEB_TRUSTED_PROXIES")
        if len(names) > 1 or not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise HTTPException(403, f"the proxy's header {self._settings.proxy_header} does not name one user")
        is_operator = name in self._settings.proxy_operators or "*" in self._settings.proxy_operators
        return Identity(name, "operator" if is_operator else "viewer", f"proxy {name}")

    async def _signed_in(self, session: Session) -> Identity | None:
        try:
            async with self._database.begin() as connection:
                account = await self._sessions.account_of(connection, session)
        except Exception as error:
            if isinstance(error, PocketwatchError) or is_outage(error):
                # Pages say so themselves; nothing can be changed while it is unknown whether the session has ended.
                return Identity(session.name, "viewer", session.id, signs_out=True)
            raise
        return None if account is None else Identity(account.name, account.role, session.id, signs_out=True)

    async def sign_in(self, name: str, password: str, *, address: str) -> SignedIn | float | None:
        """Begin a session.

        Returns:
            None when name or password are wrong; the seconds to wait when there were too many wrong ones.
        """
        if wait := self._limit.begin(name.lower(), address):
            logger.bind(name=name, address=address, wait_seconds=round(wait)).warning(LIMITED)
            return wait
        account = await self._verified(name, password)
        if account is None:
            logger.bind(name=name, address=address).warning(FAILED)
            return None
        self._limit.succeeded(name.lower(), address)
        token, session = self._sessions.issue(account)
        await self._record(session, SIGNED_IN, {"address": address, "role": account.role, "account": account.method})
        return SignedIn(token, account)

    async def _verified(self, name: str, password: str) -> Account | None:
        found = None
        async with self._database.begin() as connection:
            for method in self.methods:
                found = found or await accounts.find(connection, method, name)
        matches = await passwords.verify(None if found is None else found.password, password)
        return found if matches else None

    async def sign_out(self, request: HTTPConnection) -> None:
        """End the session of the request, if it has one."""
        if (session := self._sessions.read(request.cookies.get(COOKIE, ""))) is not None:
            await self._record(session, SIGNED_OUT, {"address": self.address_of(request)})

    async def _record(self, session: Session, action: str, after: dict[str, str]) -> None:
        who = {"actor": session.name, "source": "web", "target": session.target}
        async with self._database.begin() as connection:
            await operator_actions.record(connection, action=action, after=after, **who)  # type: ignore[arg-type]
        logger.bind(actor=session.name, **after).info(action)

    def csrf_token(self, session: str) -> str:
        """Return the token of the forms of a session."""
        return hmac.new(self._form_key, session.encode(), hashlib.sha256).hexdigest()

    def is_own_form(self, request: HTTPConnection, session: str, token: str) -> bool:
        """Whether a form was sent from a page of this console, within the session that it was shown in."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return False
        return hmac.compare_digest(self.csrf_token(session).encode(), token.encode())

    def is_from_proxy(self, request: HTTPConnection) -> bool:
        """Whether the request comes from a trusted proxy."""
        try:
            peer = ip_address(peer_of(request))
        except ValueError:
            return False
        return any(peer in network for network in self._settings.trusted_proxies)

    def address_of(self, request: HTTPConnection) -> str:
        """Return the client's address: what the nearest trusted proxy says, or the one that is connected."""
        forwarded = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
        if forwarded and self.is_from_proxy(request):
            return forwarded[:LONGEST_NAME]
        return peer_of(request)

    def is_secure(self, request: HTTPConnection) -> bool:
        """Whether the browser uses TLS, so that cookies need not be sent without."""
        said = request.headers.get("x-forwarded-proto", "") if self.is_from_proxy(request) else ""
        return (said or request.url.scheme) == "https"


def peer_of(request: HTTPConnection) -> str:
    return request.client.host if request.client is not None else ""
