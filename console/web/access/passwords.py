"""Passwords: the suite's own argon2 hashes, and those that Django stores, verified without Django."""

import asyncio
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from importlib import import_module

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MIN_LENGTH, MAX_LENGTH = 12, 1024  # characters; hashing time grows with the length
CONCURRENT = asyncio.Semaphore(2)  # verifications: each takes a core, and argon2 64 MB
HASHER = PasswordHasher()
UNKNOWN = HASHER.hash("an account that does not exist")  # verified for unknown names, which so cost the same


def hash_password(password: str) -> str:
    return HASHER.hash(password)


async def verify(encoded: str | None, password: str) -> bool:
    """Whether a password is that of a hash; None is the hash of an account that does not exist."""
    async with CONCURRENT:
        matches = await asyncio.to_thread(_matches, encoded or UNKNOWN, password)
    return matches and encoded is not None


def _matches(encoded: str, password: str) -> bool:
    algorithm, _, rest = encoded.partition("$")
    matches = ALGORITHMS.get(algorithm)  # none for "!": Django's mark of an account without a password
    if matches is None or len(password) > MAX_LENGTH:
        return False
    try:
        return matches(rest, password)
    except (VerificationError, InvalidHashError, ValueError):
        return False


def _argon2(rest: str, password: str) -> bool:
    return HASHER.verify(f"${rest}", password)


def _pbkdf2(rest: str, password: str) -> bool:
    iterations, salt, expected = rest.split("$")
    found = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), int(iterations))
    return hmac.compare_digest(b64encode(found), expected.encode())


def _scrypt(rest: str, password: str) -> bool:
    work_factor, salt, block_size, parallelism, expected = rest.split("$")
    cost = {"n": int(work_factor), "r": int(block_size), "p": int(parallelism)}
    found = hashlib.scrypt(password.encode(), salt=salt.encode(), **cost, maxmem=2**28, dklen=64)
    return hmac.compare_digest(found, b64decode(expected))


def _bcrypt(rest: str, password: str) -> bool:
    try:
        bcrypt = import_module("bcrypt")  # not a dependency: sites that hash with it have it
    except ImportError:
        return False
    return bool(bcrypt.checkpw(password.encode(), rest.encode()))


def _bcrypt_sha256(rest: str, password: str) -> bool:
    return _bcrypt(rest, hashlib.sha256(password.encode()).hexdigest())


# By what a hash begins with: the suite's own with "$argon2id$", those of Django with the name of its hasher.
ALGORITHMS: Mapping[str, Callable[[str, str], bool]] = {
    "": _argon2,
    "argon2": _argon2,
    "pbkdf2_sha256": _pbkdf2,
    "scrypt": _scrypt,
    "bcrypt": _bcrypt,
    "bcrypt_sha256": _bcrypt_sha256,
}
