"""What a process uses, read from /proc."""

import os
from contextlib import suppress
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")


def memory(pid: int) -> int:
    """Return the resident memory, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def descriptors(pid: int, *, besides: int) -> int:
    """Return how many files and sockets are open, besides those that lead to this port, such as a pool's."""
    pooled = _sockets_to(pid, besides)
    return sum(target not in pooled for target in _targets(pid))


def _targets(pid: int) -> list[str]:
    found: list[str] = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            found.append(os.readlink(link))  # noqa: PTH115  no path
    return found


def _sockets_to(pid: int, port: int) -> set[str]:
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return {f"socket:[{each[9]}]" for each in fields if int(each[2].rpartition(":")[2], 16) == port}
