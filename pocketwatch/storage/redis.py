"""Redis: a client with one clear error for each kind of outage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pocketwatch.errors import ServerUnreachable

CONNECT_TIMEOUT, REPLY_TIMEOUT = 5.0, 15.0  # seconds

OUTAGES = (exceptions.ConnectionError, exceptions.TimeoutError)
REFUSALS = (exceptions.AuthenticationError, exceptions.NoPermissionError)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    """Open a client whose keys and values are bytes.

    It never reconnects by itself: a server that was restarted has lost its cursors and scripts.

    Raises:
        ServerUnreachable: when the server is down, refuses the login or is read-only, now or while the client is used.
    """
    client = Redis.from_url(
        url,
        decode_responses=False,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=REPLY_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        client_name="pocketwatch",
        protocol=2,  # known to every version
    )
    try:
        await client.ping()
        yield client
    except exceptions.ReadOnlyError as error:
        raise ServerUnreachable(
            f"Redis at {_address(client)} is a read-only replica; REDIS_URL must name the primary"
        ) from error
    except REFUSALS as error:
        raise ServerUnreachable(f"Redis at {_address(client)} refuses the login: {error}") from error
    except OUTAGES as error:
        raise ServerUnreachable(f"Redis at {_address(client)} does not answer: {error}") from error
    finally:
        await client.aclose()


def _address(client: Redis) -> str:
    parts = client.connection_pool.connection_kwargs
    return str(parts.get("path") or f"{parts.get('host', 'localhost')}:{parts.get('port', 6379)}/{parts.get('db', 0)}")
