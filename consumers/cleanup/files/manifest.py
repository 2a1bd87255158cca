"""Read `staticfiles.json`, in which Django's ManifestStaticFilesStorage names the files of the current release."""

import json
import os
import stat
from dataclasses import dataclass

from pocketwatch.errors import PocketwatchError, Reject

NAME = "staticfiles.json"
VERSIONS = ("1.0", "1.1")  # that Django 5 reads
MAX_SIZE = 64 * 2**20  # bytes; a hundred thousand files need about 15 MB

OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ManifestUnusable(PocketwatchError):
    """The manifest is missing or half-written, as it is for a moment in each deployment. Retried."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of one release.

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
        where: the root's path, for errors.

    Raises:
        ManifestUnusable: when it is missing, unreadable or not JSON, as during a deployment.
        Reject: when it is complete but wrong.
    """
    path = f"{where}/{NAME}"
    try:
        content, status = _content(root, path)
    except FileNotFoundError as error:
        raise ManifestUnusable(
            f'manifest "{path}": missing, so nothing may be deleted; is a release being deployed? '
            "Otherwise run collectstatic with Django's ManifestStaticFilesStorage"
        ) from error
    except OSError as error:
        raise ManifestUnusable(f'manifest "{path}": cannot be read, {error.strerror}') from error
    return Manifest(names=_names(content, path), written_at=status.st_mtime, identity=_identity(status))


def identity(root: int) -> tuple[int, ...] | None:
    """Return the present `Manifest.identity`; None when there is no manifest."""
    try:
        return _identity(os.stat(NAME, dir_fd=root, follow_symlinks=False))
    except FileNotFoundError:
        return None


def _content(root: int, path: str) -> tuple[bytes, os.stat_result]:
    status = os.stat(NAME, dir_fd=root, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise Reject(f'manifest "{path}": a symbolic link or not a file; put the file itself there')
    if status.st_size > MAX_SIZE:
        raise Reject(f'manifest "{path}": {status.st_size} bytes, more than {MAX_SIZE}')
    with os.fdopen(os.open(NAME, OPEN_FILE, dir_fd=root), "rb") as file:
        content = file.read(status.st_size)
        if _identity(os.fstat(file.fileno())) != _identity(status):
            raise ManifestUnusable(f'manifest "{path}": being written')
    return content, status


def _names(content: bytes, path: str) -> frozenset[str]:
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        # Half of an object is never JSON, so this, and only this, may be a deployment that is still writing.
        raise ManifestUnusable(
            f'manifest "{path}": {f"not JSON ({error})" if content else "empty"}; is a release being deployed? '
            "Otherwise run collectstatic again"
        ) from error
    if not isinstance(manifest, dict):
        raise Reject(f'manifest "{path}": not a JSON object')
    if manifest.get("version") not in VERSIONS:
        version = json.dumps(manifest.get("version"))
        raise Reject(f'manifest "{path}": version {version}; supported are {" and ".join(VERSIONS)}')
    paths = manifest.get("paths")
    if not isinstance(paths, dict) or not paths:
        raise Reject(f'manifest "{path}": names no file; "paths" must be an object that is not empty')
    if not all(isinstance(name, str) for name in paths.values()):
        raise Reject(f'manifest "{path}": "paths" must give the name of a hashed file for each file')
    names = frozenset(paths) | frozenset(paths.values())
    if any(name.startswith("/") or ".." in name.split("/") for name in names):
        raise Reject(f'manifest "{path}": names files outside its folder; collectstatic writes no such paths')
    return names


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
