"""Free ports below the kernel's ephemeral range, the same for a folder at each start.

A port inside the ephemeral range fails at random: a client's connection may hold it, for a minute even after its end.
"""

import hashlib
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from pocketwatch.stack.servers import LOOPBACK, NODES

LOWEST, HIGHEST = 12_000, 32_768
KERNEL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Offsets in a folder's block of ports. The last eight are for the RabbitMQ command line tools, which take a free one.
# The second and the third node of a cluster have blocks of their own, for the first three: `amqp2`, `amqp3`, …
OFFSETS = {
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
RELEASE_TIMEOUT = 1.0  # seconds
POLL = 0.02  # seconds


def digest(folder: Path) -> str:
    """Return a short, stable name for a folder."""
    return hashlib.sha256(str(folder).encode()).hexdigest()[:10]


def reassign(ports: dict[str, int], names: Iterable[str], *, folder: Path) -> None:
    """Replace the ports that are not free; a port that clients know gets a moment to become free.

    Args:
        ports: by name; changed in place.
        names: of the ports to look at.
        folder: of the stack.
    """
    for name in names:
        if name not in ports or not _becomes_free(ports[name]):
            ports[name] = _first_free(name, folder=folder)


def any_free() -> int:
    """Return a port that is free now."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Return whether a server could listen on a port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _becomes_free(port: int) -> bool:
    deadline = time.monotonic() + RELEASE_TIMEOUT
    while not (free := is_free(port)) and time.monotonic() < deadline:
        time.sleep(POLL)
    return free


def _first_free(name: str, *, folder: Path) -> int:
    count = (_end() - LOWEST) // BLOCK
    kind = name.rstrip("23")
    number = int(name.removeprefix(kind) or 1)
    first = int(digest(folder), 16) + (number - 1) * (count // len(NODES))
    candidates = (LOWEST + (first + step) % count * BLOCK + OFFSETS[kind] for step in range(count))
    return next(filter(is_free, candidates))


def _end() -> int:
    """Return where the ephemeral range begins; it is not avoided if it is unknown or covers nearly all ports."""
    if not KERNEL_RANGE.exists():
        return HIGHEST
    lowest_ephemeral = int(KERNEL_RANGE.read_text(encoding="utf-8").split()[0])
    return min(lowest_ephemeral, HIGHEST) if lowest_ephemeral > LOWEST + BLOCK else HIGHEST
