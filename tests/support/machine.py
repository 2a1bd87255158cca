"""Processes and listening ports of this machine, read from /proc without the code under test."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DEADLINE = 20.0  # seconds
LISTENING = "0A"


def processes_of(folder: Path) -> list[int]:
    """Return the living processes with their working directory or home in a folder."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_of(entry, folder)]


def is_alive(pid: int) -> bool:
    """False also for a zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    return False


def listening_addresses(ports: set[int]) -> dict[int, set[str]]:
    """Return the local addresses of each of these ports on which a process listens, as the kernel writes them."""
    found: dict[int, set[str]] = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            address, _, port = line.split()[1].rpartition(":")
            if line.split()[3] == LISTENING and int(port, 16) in ports:
                found.setdefault(int(port, 16), set()).add(address)
    return found


def eventually(condition: Callable[[], object]) -> bool:
    """Return whether a condition becomes true in time."""
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@contextlib.contextmanager
def listener(port: int = 0) -> Iterator[int]:
    """Yield a port that accepts connections and sends nothing."""
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
        yield server.getsockname()[1]


def _is_of(entry: Path, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        if not is_alive(int(entry.name)):
            return False
        homes = [line for line in (entry / "environ").read_bytes().split(b"\0") if line.startswith(b"HOME=")]
        below = os.fsencode(folder) + b"/"
        return (entry / "cwd").readlink().is_relative_to(folder) or any(h.startswith(b"HOME=" + below) for h in homes)
    return False
