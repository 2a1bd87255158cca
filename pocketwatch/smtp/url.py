"""The mail server, as its URL names it.

`smtp://` speaks plainly, whatever the server offers: for this machine, or a network that is trusted.
`smtp+starttls://` insists on STARTTLS, `smtps://` speaks TLS from the first byte; both check the certificate.
A password never goes in clear to another machine.
"""

import base64
import ipaddress
import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from pocketwatch.errors import SettingsError

PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


@dataclass(frozen=True)
class Server:
    """Where letters go, how it is spoken to, and who we are there."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str = field(default="", repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)  # with it the certificate is checked

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not stand in a log, in every form that a server may repeat."""
        if not self.password:
            return ()
        forms = (self.password, f"\0{self.user}\0{self.password}")
        return self.password, *(base64.b64encode(form.encode()).decode() for form in forms)


def server(url: str, context: ssl.SSLContext | None = None) -> Server:
    """Read a URL such as `smtp+starttls://user:password@host:587`; user and password are percent-decoded.

    Raises:
        SettingsError: when it is none, or would send a password in clear to another machine.
    """
    try:
        parts = urlsplit(url)
        port, _ = parts.port, (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise _wrong(url, "has a host or port that is none") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise _wrong(url, "must be a URL that starts with smtp://, smtps:// or smtp+starttls:// and names a host")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise _wrong(url, "must end with the host or its port; write / ? # and @ of a password as %2F %3F %23 and %40")
    secure = parts.scheme != "smtp"
    user, password = _login(url, parts)
    if user is not None and not secure and not _is_here(parts.hostname):
        raise _wrong(url, "would send the password in clear to another machine; use smtp+starttls:// or smtps://")
    checked = (context or ssl.create_default_context()) if secure else None
    return Server(parts.scheme, parts.hostname, port or PORTS[parts.scheme], user, password, checked)


def _login(url: str, parts: SplitResult) -> tuple[str | None, str]:
    if parts.username is None:
        return None, ""
    user, password = unquote(parts.username), unquote(parts.password or "")
    if not user or not password:
        raise _wrong(url, "must name a user and a password, or neither")
    if "\0" in user + password:
        raise _wrong(url, "must not hold a NUL in user or password")
    return user, password


def _wrong(url: str, words: str) -> SettingsError:
    """Whatever stands before the last @ may be part of a password."""
    scheme, _, rest = url.rpartition("@")[0].partition("://")
    shown = f"{scheme}://***@{url.rpartition('@')[2]}" if rest else url
    return SettingsError(f'SMTP_URL is "{shown}": {words}')


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
