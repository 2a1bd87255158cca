"""Resident memory of a process and all its children, in bytes, as the kernel counts it.

Pages that processes share are counted in each of them; what a run adds is little blurred by that.
"""

import re
from contextlib import suppress
from pathlib import Path

GONE = (FileNotFoundError, ProcessLookupError)
MB = 1_000_000


def tree(pid: int) -> list[int]:
    """A process and what it has started, directly or not."""
    found = [pid]
    for parent in found:
        with suppress(*GONE):
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def resident(pid: int) -> int:
    """Now."""
    return sum(_read(process, "VmRSS") for process in tree(pid))


def peak(pid: int) -> int:
    """The most that each process has had since `forget_peak`, or since it started."""
    return sum(_read(process, "VmHWM") for process in tree(pid))


def forget_peak(pid: int) -> None:
    """Begin anew: what a process needed to start is not what it needs for its work."""
    for process in tree(pid):
        Path(f"/proc/{process}/clear_refs").write_text("5")


def _read(pid: int, field: str) -> int:
    with suppress(*GONE):
        if found := re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) * 1024
    return 0
