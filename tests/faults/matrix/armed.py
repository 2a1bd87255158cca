"""Run a process of the suite that strikes at a step boundary.

    python -m tests.faults.matrix.armed FOLDER PART MODULE ARGUMENT…

A file FOLDER/armed-N arms one fault: its boundary, how often that is passed before, the signal, and the process that
gets it; 0 is this one. The first process that sees the file takes it. FOLDER/struck-N says that the fault has
happened, and in which process.
"""

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.matrix.boundaries import Boundary, watch


class Striker:
    """Strikes with the faults that this process takes, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._armed: dict[str, Any] | None = None

    def reach(self, boundary: Boundary) -> None:
        """Strike, when it is time."""
        self._armed = self._armed or self._take()
        if self._armed is None or self._armed["boundary"] != str(boundary):
            return
        if self._armed["passes"]:
            self._armed["passes"] -= 1
            return
        fault, self._armed = self._armed, None
        written = self._folder / f"new-{fault['number']}"
        written.write_text(str(os.getpid()))
        written.rename(self._folder / f"struck-{fault['number']}")
        _send(fault["signal"], fault["pid"])

    def _take(self) -> dict[str, Any] | None:
        for file in self._folder.glob("armed-*"):
            taken = self._folder / f"taken-{file.name}"
            try:
                file.rename(taken)
            except FileNotFoundError:  # by another process
                continue
            fault: dict[str, Any] = json.loads(taken.read_text())
            return fault
        return None


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
