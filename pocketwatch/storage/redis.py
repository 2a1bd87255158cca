"""Redis: a connection whose errors say plainly what is wrong with it.

The library takes 8 MB and is imported by the first connection: few processes have one.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from pocketwatch.errors import ServerUnreachable, SettingsError
from pocketwatch.urls.redis import RedisUrl, parse_redis

if TYPE_CHECKING:
    from redis.asyncio import Redis

CONNECT_TIMEOUT, RESPONSE_TIMEOUT = 5.0, 15.0  # seconds


@asynccontextmanager
async def connected(url: str | RedisUrl, *, setting: str = "REDIS_URL") -> AsyncIterator["Redis"]:
    """Open a client whose keys and values are bytes.

    It does not reconnect: a server that was restarted has forgotten its cursors and scripts.

    Args:
        url: of the server.
        setting: the name of the setting that has it, for errors.

    Raises:
        ServerUnreachable: when the server is down, refuses the login or is read-only, also later; without a password.
        SettingsError: when it has no such database.
    """
    from redis import exceptions  # noqa: PLC0415
    from redis.asyncio import Redis  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    server = parse_redis(url) if isinstance(url, str) else url
    client = Redis(
        **server.options,
        decode_responses=False,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=RESPONSE_TIMEOUT,
        retry=Retry(NoBackoff(), 0),
        client_name="pocketwatch",
        protocol=2,  # understood by every version, and enough
    )
    try:
        await _check_database(client, server, setting)
        yield client
    except exceptions.ReadOnlyError as error:
        raise _unreachable(server, f"is a read-only replica; set {setting} to the primary") from error
    except (exceptions.AuthenticationError, exceptions.NoPermissionError) as error:
        raise _unreachable(server, f"refuses the login: {error}") from error
    except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
        raise _unreachable(server, f"does not answer: {error}") from error
    finally:
        await client.aclose()


async def _check_database(client: "Redis", server: RedisUrl, setting: str) -> None:
    from redis import exceptions  # noqa: PLC0415

    try:
        await client.ping()
    except exceptions.NoPermissionError:
        raise
    except exceptions.ResponseError as error:
        raise SettingsError(f"{setting} names database {server.database} of {server.address}: {error}") from error


def _unreachable(server: RedisUrl, reason: str) -> ServerUnreachable:
    return ServerUnreachable(f"Redis at {server.address} {reason}")
