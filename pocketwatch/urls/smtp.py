"""The mail server's URL.

`smtp://` is plain text, whatever the server offers: for this machine, or a trusted network.
`smtp+starttls://` requires STARTTLS, `smtps://` is TLS from the first byte; both verify the certificate.
A password is never sent in clear to another machine.
"""

from collections.abc import Mapping

from pocketwatch.urls.url import ENCODE, Url, is_loopback, parse

PORTS: Mapping[str, int] = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


def parse_smtp(text: str) -> Url:
    """Parse a URL such as `smtp+starttls://user:password@host:587`.

    Raises:
        ValueError: saying what is wrong, without the password; also when it would be sent in clear to another machine.
    """
    url = parse(text, *PORTS)
    if url.path or url.parameters:
        raise ValueError(f"text after host and port; {ENCODE}")
    if url.user is not None or url.password is not None:
        url.check_login()
    if url.user and url.scheme == "smtp" and not is_loopback(url.host):
        raise ValueError("would send the password in clear to another machine; use smtp+starttls:// or smtps://")
    return url
