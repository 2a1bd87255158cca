"""URLs of servers."""

import ipaddress
import re

BETWEEN_URLS = re.compile(r",(?=[a-z+]+://)")  # a URL may contain commas of its own


def split(urls: str) -> list[str]:
    return BETWEEN_URLS.split(urls)


def without_password(urls: str) -> str:
    """Mask the passwords of a URL, or a list of URLs, for logs and errors; works for malformed ones too."""
    masked = (re.sub(r":(?!//).*@", ":***@", url, flags=re.DOTALL) for url in split(urls))
    return re.sub(r"(password=)[^&,]*", r"\1***", ",".join(masked))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
