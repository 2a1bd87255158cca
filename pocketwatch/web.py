"""Clients of websites and their APIs, and the proxies of the environment that lead to them."""

import ssl
from typing import Any

import httpx

from pocketwatch.errors import SettingsError
from pocketwatch.urls import is_loopback

# What building a client raises when the environment is wrong: no outage, and not the site's fault.
MISCONFIGURED = (OSError, ValueError, ImportError, httpx.InvalidURL)


def open_client(url: str, **options: Any) -> httpx.AsyncClient:
    """Return a client for requests to one site; close it after use.

    Proxies of the environment are used, except for a site on this machine, which they cannot reach.

    Args:
        url: of the site.
        options: of `httpx.AsyncClient`.

    Raises:
        SettingsError: when a proxy or a certificate file of the environment cannot be used.
    """
    try:
        return httpx.AsyncClient(trust_env=not is_loopback(httpx.URL(url).host), **options)
    except MISCONFIGURED as error:
        raise SettingsError(
            f"HTTP client: {error}; correct HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE or SSL_CERT_DIR"
        ) from error


def check_proxy(value: str) -> None:
    """Check the value of a variable such as HTTPS_PROXY.

    Raises:
        ValueError: saying why it cannot be used.
    """
    try:
        proxy = httpx.Proxy(value if "://" in value else f"http://{value}")
        httpx.AsyncHTTPTransport(proxy=proxy, verify=_no_certificates())
    except ImportError:
        raise ValueError("SOCKS is not supported; use an http:// proxy, or unset it") from None
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or not proxy.url.host:
        raise ValueError("not a proxy; use a URL such as http://proxy.example:3128, or unset it")


def check_no_proxy(_: str) -> None:
    """Check NO_PROXY of this process, whose proxies are right.

    Raises:
        ValueError: when an entry cannot be used.
    """
    try:
        httpx.AsyncClient(verify=_no_certificates())
    except (ValueError, httpx.InvalidURL):
        raise ValueError("an entry is wrong; list host names and addresses, an IPv6 address without brackets") from None


def _no_certificates() -> ssl.SSLContext:
    """Return a context that is made at once; those of the environment are checked for themselves."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
