"""`staticfiles.json`, in which Django's ManifestStaticFilesStorage says which hashed files the current release uses."""

import json
import os
import stat
from dataclasses import dataclass
from typing import Any

from pocketwatch.errors import PocketwatchError, Reject

NAME = "staticfiles.json"
VERSIONS = ("1.0", "1.1")  # that Django 5 reads
LARGEST = 64 * 2**20  # bytes; a hundred thousand files need about 15 MB

OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ManifestUnusable(PocketwatchError):
    """The manifest is missing or half-written, as it is for a moment in each deploy. Tried again."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one release uses.

    Args:
        names: relative paths, of hashed files and of their originals.
        written_at: in seconds since the epoch.
        identity: changes with the file.
    """

    names: frozenset[str]
    written_at: float
    identity: tuple[int, ...]


def read(root: int, where: str) -> Manifest:
    """Read the manifest of a static root.

    Args:
        root: an open descriptor.
        where: the root's path, to tell.

    Raises:
        ManifestUnusable: when it is missing, unreadable or no JSON, which a deploy may be about to mend.
        GiveUp: when it is whole and yet not what it should be.
    """
    path = f"{where}/{NAME}"
    try:
        content, status = _content(root, path)
    except FileNotFoundError as error:
        raise ManifestUnusable(
            f'the manifest "{path}" is missing, and without it nothing may be deleted; is a release being deployed? '
            "It is written by collectstatic with Django's ManifestStaticFilesStorage"
        ) from error
    except OSError as error:
        raise ManifestUnusable(f'the manifest "{path}" cannot be read: {error.strerror}') from error
    return Manifest(names=_names(content, path), written_at=status.st_mtime, identity=_identity(status))


def identity(root: int) -> tuple[int, ...] | None:
    """What `Manifest.identity` would be if it was read now; None when there is none."""
    try:
        return _identity(os.stat(NAME, dir_fd=root, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _content(root: int, path: str) -> tuple[bytes, os.stat_result]:
    status = os.stat(NAME, dir_fd=root, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise Reject(f'the manifest "{path}" is a symbolic link or no file; put the file itself there')
    if status.st_size > LARGEST:
        raise Reject(f'the manifest "{path}" has {status.st_size} bytes, more than {LARGEST}')
    descriptor = os.open(NAME, OPEN_FILE, dir_fd=root)
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(status.st_size)
        if _identity(os.fstat(descriptor)) != _identity(status):
            raise ManifestUnusable(f'the manifest "{path}" is being written')
    finally:
        os.close(descriptor)
    return content, status


def _names(content: bytes, path: str) -> frozenset[str]:
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        # Half of an object is never JSON, so this, and only this, may be a deploy that is still writing.
        raise ManifestUnusable(
            f'the manifest "{path}" is {"empty" if not content else f"no JSON ({error})"}; is a release being '
            "deployed? Otherwise it is broken: run collectstatic again"
        ) from error
    paths = _paths(manifest, path)
    if not all(isinstance(name, str) for name in paths.values()):
        raise Reject(f'"paths" of the manifest "{path}" must give the name of a hashed file for each file')
    return frozenset(paths) | frozenset(paths.values())


def _paths(manifest: Any, path: str) -> dict[str, Any]:
    if not isinstance(manifest, dict):
        raise Reject(f'the manifest "{path}" is no JSON object')
    if manifest.get("version") not in VERSIONS:
        version = json.dumps(manifest.get("version"))
        raise Reject(f'the manifest "{path}" is of version {version}; known are {" and ".join(VERSIONS)}')
    paths = manifest.get("paths")
    if not isinstance(paths, dict) or not paths:
        raise Reject(f'the manifest "{path}" names no file: its "paths" must be an object that is not empty')
    return paths


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
