"""The guard: a process that outlives its user and then stops what that one started, whatever way it died.

`python -m pocketwatch.stack.guard FOLDER HOLDER` waits for the end of its standard input, a pipe that only the user
holds open: the kernel closes it when the user ends, also by SIGKILL. (A child that the user forks without starting
another program holds it open too.)
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]  # so that the module is found, wherever the user stands
PATIENCE = 120.0  # seconds; it may have to wait for another command


class Guard:
    """The user's side."""

    def __init__(self, folder: Path, holder: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        reading, self._writing = os.pipe()  # not inherited by anybody, unless named
        with (folder / "guard.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own interpreter
                [sys.executable, "-m", "pocketwatch.stack.guard", str(folder), holder],
                cwd=PROJECT,
                stdin=reading,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(reading)

    def dismiss(self) -> None:
        """Wake it, and wait until it has found that nothing is left to do."""
        os.close(self._writing)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main(folder: str, holder: str) -> None:
    """The guard's own life."""
    from pocketwatch.stack.stack import Stack  # noqa: PLC0415  the facade imports this module

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the user's end wakes it
    sys.stdin.buffer.read()
    Stack(Path(folder)).release(holder)


if __name__ == "__main__":
    main(*sys.argv[1:])
