"""Resident memory of a process and all its children, in bytes, as the kernel counts it.

Pages that processes share are counted in each of them; what a run adds is little blurred by that.
"""

import re
from contextlib import suppress
from pathlib import Path

GONE = (FileNotFoundError, ProcessLookupError)
MB = 1_000_000


def tree(pid: int) -> list[int]:
    """Return the process and its descendants."""
    found = [pid]
    for parent in found:
        with suppress(*GONE):
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found


def resident(pid: int) -> int:
    return sum(_read(process, "VmRSS") for process in tree(pid))


def peak(pid: int) -> int:
    """Return the sum of the peaks of all processes since `forget_peak`, or since their start."""
    return sum(_read(process, "VmHWM") for process in tree(pid))


def forget_peak(pid: int) -> None:
    """Reset the peaks, so that they exclude what the processes needed to start."""
    for process in tree(pid):
        Path(f"/proc/{process}/clear_refs").write_text("5")


def _read(pid: int, field: str) -> int:
    with suppress(*GONE):
        if found := re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) * 1024
    return 0
