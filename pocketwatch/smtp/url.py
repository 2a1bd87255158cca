"""The mail server's URL.

`smtp://` is plain text, whatever the server offers: for this machine, or a trusted network.
`smtp+starttls://` requires STARTTLS, `smtps://` is TLS from the first byte; both verify the certificate.
A password is never sent in clear to another machine.
"""

import base64
import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from pocketwatch.errors import SettingsError
from pocketwatch.urls import is_loopback

PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


@dataclass(frozen=True)
class SmtpUrl:
    """Where the mail server is, how to connect to it, and the login."""

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str = field(default="", repr=False)
    tls_context: ssl.SSLContext | None = field(default=None, repr=False)  # None without TLS

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not appear in a log, in every form that a server may repeat."""
        if not self.password:
            return ()
        forms = (self.password, f"\0{self.user}\0{self.password}")
        return self.password, *(base64.b64encode(form.encode()).decode() for form in forms)


def parse_smtp_url(url: str, tls_context: ssl.SSLContext | None = None) -> SmtpUrl:
    """Parse a URL such as `smtp+starttls://user:password@host:587`; user and password are percent-encoded.

    Args:
        url: of the server.
        tls_context: replaces the default one, which trusts the machine's certificate authorities.

    Raises:
        SettingsError: for an invalid URL, or one that would send a password in clear to another machine.
    """
    try:
        parts = urlsplit(url)
        port, _ = parts.port, (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise _error(url, "invalid host or port; use a name or address, and a port below 65536") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise _error(url, "not a mail server; use smtp://host, smtps://host or smtp+starttls://host")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise _error(url, "text after host and port; write / ? # and @ of a password as %2F %3F %23 and %40")
    is_secure = parts.scheme != "smtp"
    user, password = _login(url, parts)
    if user is not None and not is_secure and not is_loopback(parts.hostname):
        raise _error(url, "would send the password in clear to another machine; use smtp+starttls:// or smtps://")
    context = (tls_context or ssl.create_default_context()) if is_secure else None
    return SmtpUrl(parts.scheme, parts.hostname, port or PORTS[parts.scheme], user, password, context)


def _login(url: str, parts: SplitResult) -> tuple[str | None, str]:
    if parts.username is None:
        return None, ""
    user, password = unquote(parts.username), unquote(parts.password or "")
    if not user or not password:
        raise _error(url, "incomplete login; give user and password, or neither")
    if "\0" in user + password:
        raise _error(url, "NUL in user or password; remove %00")
    return user, password


def _error(url: str, problem: str) -> SettingsError:
    """Build the error without the password, which may be anything before the last @."""
    scheme, _, rest = url.rpartition("@")[0].partition("://")
    shown = f"{scheme}://***@{url.rpartition('@')[2]}" if rest else url
    return SettingsError(f'SMTP_URL is "{shown}": {problem}')
