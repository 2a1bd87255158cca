"""Fetch a bank's answer: one GET, bounded in time, size and attempts, never redirected to another host."""

import asyncio
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import httpx

from consumers.rates.errors import BankFailed, TemporaryFailure
from pocketwatch.web import open_client

CONNECT_TIMEOUT, READ_TIMEOUT = 5.0, 10.0  # seconds; the second limits each silence
TOTAL_TIMEOUT = 20.0  # seconds for one attempt, however slowly the bytes arrive
RETRY_DELAYS = (0.5, 2.0)  # seconds, each with a jitter of a half
MAX_SIZE = 1024 * 1024  # bytes, decompressed; the NBU sends about 10,000
MAX_REDIRECTS = 3

HEADERS = {
    "User-Agent": f"pocketwatch/{version('pocketwatch')}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
}
SERVER_ERRORS = 500


async def get(url: str) -> bytes:
    """Return the body of the bank's answer.

    Raises:
        BankFailed: after three temporary failures, or at once if another attempt cannot help.
    """
    for delay in RETRY_DELAYS:
        try:
            return await _attempt(url)
        except TemporaryFailure:
            await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311  jitter, not a secret
    return await _attempt(url)


def shown(url: str) -> str:
    """Return a URL for an error: without user, password and query."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None))


async def _attempt(url: str) -> bytes:
    timeout = httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT)
    client = open_client(url, headers=HEADERS, timeout=timeout)
    with _temporary_failures():
        async with asyncio.timeout(TOTAL_TIMEOUT), client:
            return await _get(client, httpx.URL(url))


@contextmanager
def _temporary_failures() -> Iterator[None]:
    """Translate network errors, which must not pass for an outage of the database."""
    try:
        yield
    except TimeoutError as error:
        raise TemporaryFailure(f"no complete answer within {TOTAL_TIMEOUT:g} s") from error
    except httpx.TimeoutException as error:
        raise TemporaryFailure(f"timed out ({type(error).__name__})") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise TemporaryFailure(f"connection failed ({type(error).__name__}: {error})") from error


async def _get(client: httpx.AsyncClient, url: httpx.URL) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        async with client.stream("GET", url) as response:
            if response.next_request is None:
                _check_status(response)
                return await _body(response)
            url = _checked_redirect(url, response.next_request.url)
    raise BankFailed(f"more than {MAX_REDIRECTS} redirects")


def _checked_redirect(source: httpx.URL, target: httpx.URL) -> httpx.URL:
    same_host = (target.host, target.port) == (source.host, source.port)
    if not same_host or (source.scheme == "https" and target.scheme != "https"):
        raise BankFailed(f"redirect to {target.scheme}://{target.netloc.decode(errors='replace')} refused")
    return target


def _check_status(response: httpx.Response) -> None:
    if response.status_code >= SERVER_ERRORS:
        raise TemporaryFailure(f"HTTP status {response.status_code}")
    if response.status_code != httpx.codes.OK:
        raise BankFailed(f"HTTP status {response.status_code}")


async def _body(response: httpx.Response) -> bytes:
    """Decompress chunk by chunk, so that a decompression bomb never fills the memory."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise BankFailed(f'content encoding "{encoding}" was not requested')
    decompressor = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += chunk if decompressor is None else decompressor.decompress(chunk, MAX_SIZE + 1 - len(body))
        except zlib.error as error:
            raise BankFailed("answer is not valid gzip") from error
        if len(body) > MAX_SIZE:
            raise BankFailed(f"answer is larger than {MAX_SIZE} bytes")
    if decompressor is not None and not decompressor.eof:
        raise TemporaryFailure("truncated response")
    return bytes(body)
