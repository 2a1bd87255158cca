"""Which process this is: its host, its id, and the version that it runs."""

import os
import socket
from functools import cache

HOST, PID = socket.gethostname(), os.getpid()
WORKER = f"{HOST}:{PID}"  # as in the run log


@cache
def version() -> str:
    """Return the version of the installed package."""
    from importlib import metadata  # noqa: PLC0415  takes longer to import than most commands need

    try:
        return metadata.version("pocketwatch")
    except metadata.PackageNotFoundError:  # run from a folder
        return "unknown"
