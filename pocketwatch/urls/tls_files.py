"""The files of TLS that URLs and the environment name: loaded once at start, as the drivers load them later.

A driver reports a wrong file as an error of the connection, which would pass for a server that does not answer.
"""

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pocketwatch.urls.url import Url


class NamedFile(NamedTuple):
    """A file, and the parameter or variable that names it."""

    name: str
    path: str

    @property
    def is_absent(self) -> bool:
        """Whether it does not exist; a file that cannot be looked at is not absent."""
        try:
            os.stat(self.path)  # noqa: PTH116  Path.exists differs between versions of Python
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False


def check_authorities(file: NamedFile) -> None:
    """Load a file of certificate authorities, or of revoked certificates.

    Raises:
        ValueError: when it cannot be used.
    """
    _load(file, lambda context: context.load_verify_locations(file.path))


def check_certificate(certificate: NamedFile, key: NamedFile | None = None, *, password: str = "") -> None:
    """Load a client's certificate and its key.

    Raises:
        ValueError: when they cannot be used.
    """
    if key is not None:
        _check_readable(key)
    _load(
        certificate,
        lambda context: context.load_cert_chain(certificate.path, keyfile=key and key.path, password=lambda: password),
    )


def check_folder(folder: NamedFile) -> None:
    """Check that a folder, or one of several that are separated by colons, has certificates that OpenSSL finds.

    Raises:
        ValueError: when none has.
    """
    for path in map(Path, folder.path.split(os.pathsep)):
        if path.is_dir() and any(path.glob("[0-9a-f]*.[0-9]")):
            return
    raise ValueError(
        f'{folder.name} is "{folder.path}": no folder with certificates; name one that `openssl rehash` has prepared'
    )


def check_parameter_files(url: Url, *, authorities: str, folder: str, certificate: str, key: str) -> None:
    """Load the files that the parameters of a URL name.

    Args:
        url: of a server.
        authorities, folder, certificate, key: the names of the parameters.

    Raises:
        ValueError: naming the parameter and the file that cannot be used.
    """
    found = {name: NamedFile(f"parameter {name}", path) for name, path in url.parameters.items()}
    if authorities in found:
        check_authorities(found[authorities])
    if folder in found:
        check_folder(found[folder])
    if certificate in found:
        check_certificate(found[certificate], found.get(key))


def _check_readable(file: NamedFile) -> None:
    try:
        Path(file.path).open("rb").close()
    except (OSError, ValueError) as error:
        raise _error(file, error) from None


def _load(file: NamedFile, load: Callable[[ssl.SSLContext], Any]) -> None:
    _check_readable(file)
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
        raise _error(file, error) from None


def _error(file: NamedFile, error: Exception) -> ValueError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return ValueError(f'{file.name} is "{file.path}", which cannot be used: {reason}; name a readable PEM file')
