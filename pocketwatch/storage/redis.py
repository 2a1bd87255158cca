"""Redis: a connection whose errors say plainly what is wrong with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pocketwatch.errors import ServerUnreachable

CONNECT_TIMEOUT, RESPONSE_TIMEOUT = 5.0, 15.0  # seconds


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    """Open a client whose keys and values are bytes.

    It does not reconnect: a server that was restarted has forgotten its cursors and scripts.

    Raises:
        ServerUnreachable: when the server is down, refuses the login or is read-only, also later; without a password.
    """
    client = Redis.from_url(
        url,
        decode_responses=False,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=RESPONSE_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        client_name="pocketwatch",
        protocol=2,  # understood by every version, and enough
    )
    try:
        await client.ping()
        yield client
    except exceptions.ReadOnlyError as error:
        raise _unreachable(client, "is a read-only replica; set REDIS_URL to the primary") from error
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise _unreachable(client, f"refuses the login: {error}") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise _unreachable(client, f"does not answer: {error}") from error
    finally:
        await client.aclose()


def _unreachable(client: Redis, reason: str) -> ServerUnreachable:
    options = client.connection_pool.connection_kwargs  # the URL could show a password
    where = (
        options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"
    )
    return ServerUnreachable(f"Redis at {where} {reason}")
