"""Run a process of the suite that strikes at a step boundary.

    python -m tests.faults.matrix.armed FOLDER PART MODULE ARGUMENT…

A file FOLDER/armed/BOUNDARY/N arms one fault: the first process that reaches the boundary writes its process id and the
time to FOLDER/struck-N, and sends itself this signal. For a fault of a server that is SIGSTOP, so that the process
stays at the boundary until the server is struck.
"""

import json
import os
import runpy
import sys
import time
from pathlib import Path

from tests.faults.matrix.boundaries import Boundary, watch


class Striker:
    """Sends this process the signals that are armed at its boundaries; after one that is marked `once`, no more."""

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
            taken.write_text(json.dumps({"pid": os.getpid(), "at": time.time()}))
            taken.rename(self._folder / f"struck-{file.name}")
            self._is_struck = bool(fault["once"])
            os.kill(os.getpid(), fault["signal"])
            return


def folder_of(folder: Path, boundary: Boundary) -> Path:
    """Return where the faults of a boundary are armed."""
    return folder / "armed" / str(boundary)


def main() -> None:
    folder, part, module, *arguments = sys.argv[1:]
    watch(part, Striker(Path(folder)).reach)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
