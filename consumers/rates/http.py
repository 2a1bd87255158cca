"""Asking a bank: one GET, bounded in time, size and tries, and never led to another host."""

import asyncio
import ipaddress
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import httpx

from consumers.rates.banks import BankFailed

CONNECT_WITHIN, READ_WITHIN = 5.0, 10.0  # seconds; the second is the longest silence
ANSWER_WITHIN = 20.0  # seconds for all of one answer, however it drips
PAUSES = (0.5, 2.0)  # seconds before the second and the third try, each lengthened or shortened by up to a half
LARGEST = 1024 * 1024  # bytes, unpacked; NBU's answer has about 10,000
REDIRECTS = 3

HEADERS = {
    "User-Agent": f"pocketwatch/{version('pocketwatch')}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
}
SERVER_ERRORS = 500


class Unanswered(BankFailed):
    """No answer this time; the next moment may bring one."""


async def ask(url: str) -> bytes:
    """The body of the bank's answer.

    Raises:
        BankFailed: when it has none after a few tries, or one that trying again does not better.
    """
    for pause in PAUSES:
        try:
            return await _once(url)
        except Unanswered:
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  so that replicas spread, no secret
    return await _once(url)


async def _once(url: str) -> bytes:
    timeout = httpx.Timeout(READ_WITHIN, connect=CONNECT_WITHIN)
    # Proxies of the environment are used; but one cannot reach a bank on this very machine.
    client = httpx.AsyncClient(headers=HEADERS, timeout=timeout, trust_env=not _is_here(httpx.URL(url).host))
    with _told():
        async with asyncio.timeout(ANSWER_WITHIN), client:
            return await _get(client, httpx.URL(url))


@contextmanager
def _told() -> Iterator[None]:
    """Foreign errors in our words. None may look like an outage of the database, which is waited for in silence."""
    try:
        yield
    except TimeoutError as error:
        raise Unanswered(f"no complete answer within {ANSWER_WITHIN:g} s") from error
    except httpx.TimeoutException as error:
        raise Unanswered(f"does not answer in time ({type(error).__name__})") from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise Unanswered(f"does not answer ({type(error).__name__}: {error})") from error


async def _get(client: httpx.AsyncClient, url: httpx.URL) -> bytes:
    for _ in range(REDIRECTS + 1):
        async with client.stream("GET", url) as response:
            if response.next_request is None:
                _check_status(response)
                return await _body(response)
            url = _checked(response.next_request.url, came_from=url)
    raise BankFailed(f"redirects more than {REDIRECTS} times")


def _checked(url: httpx.URL, *, came_from: httpx.URL) -> httpx.URL:
    same_host = (url.host, url.port) == (came_from.host, came_from.port)
    if not same_host or (came_from.scheme == "https" and url.scheme != "https"):
        raise BankFailed(f"redirects to {url.scheme}://{url.netloc.decode(errors='replace')}, which is not followed")
    return url


def _check_status(response: httpx.Response) -> None:
    if response.status_code >= SERVER_ERRORS:
        raise Unanswered(f"answers with HTTP status {response.status_code}")
    if response.status_code != httpx.codes.OK:
        raise BankFailed(f"answers with HTTP status {response.status_code}")


async def _body(response: httpx.Response) -> bytes:
    """What is received, unpacked bit by bit, so that neither a giant nor a bomb is ever held."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise BankFailed(f'answers in the encoding "{encoding}", which was not asked for')
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if encoding == "gzip" else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += chunk if unpacker is None else unpacker.decompress(chunk, LARGEST + 1 - len(body))
        except zlib.error as error:
            raise BankFailed("answers with what it calls gzip, and is not") from error
        if len(body) > LARGEST:
            raise BankFailed(f"answers with more than {LARGEST} bytes")
    if unpacker is not None and not unpacker.eof:
        raise Unanswered("its answer ends before its end")
    return bytes(body)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
