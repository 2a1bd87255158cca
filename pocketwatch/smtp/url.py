"""How to connect to the mail server that `SMTP_URL` names."""

import base64
import ssl
from dataclasses import dataclass, field

from pocketwatch.errors import SettingsError
from pocketwatch.urls import without_password
from pocketwatch.urls.smtp import PORTS, parse_smtp


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
        parts = parse_smtp(url)
    except ValueError as error:
        raise SettingsError(f'SMTP_URL is "{without_password(url)}": {error}') from None
    context = None if parts.scheme == "smtp" else tls_context or ssl.create_default_context()
    port = parts.port or PORTS[parts.scheme]
    return SmtpUrl(parts.scheme, parts.host, port, parts.user or None, parts.password or "", context)
