"""Ports: below the kernel's ephemeral range, the same ones for a folder at each start, and never somebody else's.

A port inside the ephemeral range fails at random: any client's connection may hold it for a minute after it has ended.
"""

import hashlib
import socket
import time
from collections.abc import Iterable
from pathlib import Path

LOOPBACK = "127.0.0.1"
LOWEST, HIGHEST = 12_000, 32_768
KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# A port's place in the folder's block. The last eight are for the RabbitMQ command line tools: they take any free one.
PLACES = {
    "amqp": 0,
    "management": 1,
    "distribution": 2,
    "epmd": 3,
    "postgres": 4,
    "redis": 5,
    "mail": 6,
    "mailpit": 7,
    "tools": 8,
}
BLOCK = 16
TOOLS = 8
PATIENCE = 1.0  # seconds
POLL = 0.02  # seconds


def digest(folder: Path) -> str:
    """A short name for a folder, the same at each call."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:10]


def reassign(ports: dict[str, int], names: Iterable[str], *, folder: Path) -> None:
    """Give each of the names a port that is free now: the one it has, or else the next in its place.

    Clients know the one it has, so a moment is spent waiting for whatever still holds it.
    """
    for name in names:
        if name not in ports or not _becomes_free(ports[name]):
            ports[name] = _first_free(name, folder=folder)


def is_free(port: int) -> bool:
    """True when a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _becomes_free(port: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not (free := is_free(port)) and time.monotonic() < deadline:
        time.sleep(POLL)
    return free


def _first_free(name: str, *, folder: Path) -> int:
    count = (_end() - LOWEST) // BLOCK
    first = int(digest(folder), 16) % count
    candidates = (LOWEST + (first + step) % count * BLOCK + PLACES[name] for step in range(count))
    return next(filter(is_free, candidates))


def _end() -> int:
    """Where the ports that the kernel gives to clients begin; when it gives all, or does not say, none is avoided."""
    if not KERNEL_RANGE.exists():
        return HIGHEST
    lowest_ephemeral = int(KERNEL_RANGE.read_text(encoding="utf-8").split()[0])
    return min(lowest_ephemeral, HIGHEST) if lowest_ephemeral > LOWEST + BLOCK else HIGHEST
