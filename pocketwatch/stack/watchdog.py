"""The process that stops the servers when their user has ended.

`python -m pocketwatch.stack.watchdog FOLDER LOCK` waits for the end of its standard input. LOCK is the file descriptor
of the lease.
"""

import os
import signal
import sys
from pathlib import Path

from pocketwatch.stack.stack import Stack


def main(folder: Path, lock: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the end of the user counts
    sys.stdin.buffer.read()
    os.close(lock)
    Stack(folder).stop_unused()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
