"""Run a process of the suite that strikes at a step boundary.

    python -m tests.faults.matrix.armed FOLDER PART MODULE ARGUMENT…

A file FOLDER/armed/BOUNDARY/N arms one fault: the signal, and the process that gets it; 0 is this one. The first
process that reaches the boundary takes it. FOLDER/struck-N says that the fault has happened, and in which process.
"""

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

from tests.faults.matrix.boundaries import Boundary, watch


class Striker:
    """Strikes with the faults that this process takes: itself once, a server again and again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_struck = False

    def reach(self, boundary: Boundary) -> None:
        """Strike, if a fault is armed here."""
        if self._is_struck:
            return
        for file in folder_of(self._folder, boundary).glob("*"):
            taken = self._folder / f"taken-{file.name}"
            try:
                file.rename(taken)
            except FileNotFoundError:  # by another process
                continue
            fault: dict[str, int] = json.loads(taken.read_text())
            taken.write_text(str(os.getpid()))
            taken.rename(self._folder / f"struck-{file.name}")
            self._is_struck = not fault["pid"]
            _send(fault["signal"], fault["pid"])
            return


def folder_of(folder: Path, boundary: Boundary) -> Path:
    """Return where the faults of a boundary are armed."""
    return folder / "armed" / str(boundary)


def _send(number: int, pid: int) -> None:
    os.kill(pid or os.getpid(), number)
    while pid and number == signal.SIGKILL and _runs(pid):  # nothing that this process does next finds it alive
        time.sleep(0.001)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def main() -> None:
    folder, part, module, *arguments = sys.argv[1:]
    watch(part, Striker(Path(folder)).reach)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
