"""Which process this is: its host, its id, and the version that it runs."""

import os
import socket
from functools import cache

HOST = socket.gethostname()


def worker() -> str:
    """Return the host and id of this process, as in the run log; a forked process has its own."""
    return f"{HOST}:{os.getpid()}"


@cache
def version() -> str:
    """Return the version of the installed package."""
    from importlib import metadata  # noqa: PLC0415  takes longer to import than most commands need

    try:
        return metadata.version("pocketwatch")
    except metadata.PackageNotFoundError:  # run from a folder
        return "unknown"
