"""A person at the console."""

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

from pocketwatch.command import user_or_id

Role = Literal["viewer", "operator"]


@dataclass(frozen=True, slots=True)
class Identity:
    """A person at the console; an operator changes what a viewer only sees."""

    name: str
    role: Role
    session: str  # what a CSRF token is bound to
    signs_out: bool = False  # whether there is a session to end

    @property
    def is_operator(self) -> bool:
        return self.role == "operator"


def of_process() -> Identity:
    """Return the identity of the user who runs this process: the only one there is without a sign-in."""
    return Identity(user_or_id(), "operator", "local")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
