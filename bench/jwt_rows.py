"""Refresh tokens in bulk, in simplejwt's own tables: real JWTs, each with its own id, as logins create them."""

import hmac
import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

KEY = b"a key of the benches that signs nothing of value"
DAY = 24 * 3600  # seconds
LIFETIME = 30 * DAY
ALIVE_SINCE = 25 * DAY  # tokens of the last 25 days are alive during the whole bench
EXPIRED_SINCE, EXPIRED_UNTIL = 400 * DAY, 70 * DAY  # issued; expired for more than the 30 days of our retention
USERS = 20  # created by `demo.marketplace make`

OUTSTANDING = "COPY token_blacklist_outstandingtoken (id, token, created_at, expires_at, user_id, jti) FROM STDIN"
# As many of those that are expired as of those that are alive: one in four.
BLACKLIST = (
    "INSERT INTO token_blacklist_blacklistedtoken (blacklisted_at, token_id) "
    "SELECT created_at + interval '1 hour', id FROM token_blacklist_outstandingtoken WHERE id % 4 = 0"
)
SEQUENCE = (
    "SELECT setval(pg_get_serial_sequence('token_blacklist_outstandingtoken', 'id'), max(id)) "
    "FROM token_blacklist_outstandingtoken"
)


@dataclass(frozen=True)
class Lot:
    """Numbers of tokens; expired ones come first, as they were issued first."""

    total: int

    @property
    def expired(self) -> int:
        return self.total * 6 // 10

    @property
    def left(self) -> tuple[int, int]:
        """Return the numbers of outstanding and blacklisted tokens that are left when the expired ones are deleted."""
        return self.total - self.expired, self.total // 4 - self.expired // 4


def encode(part: bytes) -> bytes:
    """Encode a part of a JWT."""
    return urlsafe_b64encode(part).rstrip(b"=")


HEADER = encode(b'{"alg":"HS256","typ":"JWT"}')


def token(*, jti: str, issued: int, user: int) -> str:
    """Make what simplejwt's `RefreshToken.for_user` returns, in a tenth of the time."""
    payload = f'{{"token_type":"refresh","exp":{issued + LIFETIME},"iat":{issued},"jti":"{jti}","user_id":"{user}"}}'
    signed = HEADER + b"." + encode(payload.encode())
    return (signed + b"." + encode(hmac.digest(KEY, signed, "sha256"))).decode()


def moment(seconds: int) -> str:
    """Format a time for COPY."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def issued_at(lot: Lot, now: int) -> Iterator[int]:
    """Return when each token was issued, in seconds since the epoch, oldest first."""
    span = EXPIRED_SINCE - EXPIRED_UNTIL
    yield from (now - EXPIRED_SINCE + span * n // lot.expired for n in range(lot.expired))
    alive = lot.total - lot.expired
    yield from (now - ALIVE_SINCE + ALIVE_SINCE * n // alive for n in range(alive))


def fill(url: str, lot: Lot) -> None:
    """Insert the tokens into empty tables."""
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        with cursor.copy(OUTSTANDING) as copy:
            for number, issued in enumerate(issued_at(lot, int(time.time())), start=1):
                jti, user = os.urandom(16).hex(), 1 + number % USERS
                text = token(jti=jti, issued=issued, user=user)
                copy.write_row((number, text, moment(issued), moment(issued + LIFETIME), user, jti))
        cursor.execute(BLACKLIST)
        cursor.execute(SEQUENCE)
