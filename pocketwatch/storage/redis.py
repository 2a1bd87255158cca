"""Redis: a connection that says plainly what is wrong with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pocketwatch.errors import ServerUnreachable

CONNECT_TIMEOUT, ANSWER_TIMEOUT = 5.0, 15.0  # seconds

AWAY = (exceptions.ConnectionError, exceptions.TimeoutError)
REFUSALS = (exceptions.AuthenticationError, exceptions.NoPermissionError)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    """A client whose keys and values are bytes; the server has let it in.

    It never connects anew behind one's back: a server that was restarted has forgotten its cursors and scripts.

    Raises:
        ServerUnreachable: when the server is away, refuses us or cannot be written to, also later; without a password.
    """
    client = Redis.from_url(
        url,
        decode_responses=False,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        client_name="pocketwatch",
        protocol=2,  # all that is needed, and known to every version
    )
    try:
        await client.ping()
        yield client
    except exceptions.ReadOnlyError as error:
        raise ServerUnreachable(
            f"Redis at {_address(client)} is a read-only replica; REDIS_URL must name the primary"
        ) from error
    except REFUSALS as error:
        raise ServerUnreachable(f"Redis at {_address(client)} refuses us: {error}") from error
    except AWAY as error:
        raise ServerUnreachable(f"Redis at {_address(client)} does not answer: {error}") from error
    finally:
        await client.aclose()


def _address(client: Redis) -> str:
    """Where it is; the URL could show a password."""
    place = client.connection_pool.connection_kwargs
    return str(place.get("path") or f"{place.get('host', 'localhost')}:{place.get('port', 6379)}/{place.get('db', 0)}")
