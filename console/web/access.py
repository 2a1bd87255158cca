"""Who uses the console, and what they may do."""

import getpass
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from starlette.requests import HTTPConnection

from pocketwatch.settings import Settings

Role = Literal["viewer", "operator"]
LOCAL_SESSION = "local"


@dataclass(frozen=True, slots=True)
class Identity:
    """A person at the console."""

    name: str
    role: Role
    session: str  # what a CSRF token is bound to
    signs_out: bool = False  # whether there is a session to end

    @property
    def is_operator(self) -> bool:
        return self.role == "operator"


class Access:
    """Says who sends a request, and issues and checks the tokens of forms."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._key = secrets.token_bytes(32)

    async def identify(self, request: HTTPConnection) -> Identity | None:  # noqa: ARG002
        """Return who sends the request; None when they have to sign in."""
        return Identity(_user_of_process(), "operator", LOCAL_SESSION)

    def csrf_token(self, identity: Identity) -> str:
        return hmac.new(self._key, f"csrf:{identity.session}".encode(), hashlib.sha256).hexdigest()

    def is_own_form(self, request: HTTPConnection, identity: Identity, token: str) -> bool:
        """Whether a form was sent from a page of this console, by the person that it was shown to."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return False
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return False
        return hmac.compare_digest(self.csrf_token(identity).encode(), token.encode())


def is_loopback(host: str) -> bool:
    """Whether an address to bind to is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _user_of_process() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
