"""A process that outlives the user of a stack, and then releases the user's lease.

`python -m pocketwatch.stack.watchdog FOLDER LEASE` reads its standard input, a pipe that only the user holds open: the
kernel closes it when the user ends, even by SIGKILL. (A child forked without exec keeps it open too.)
"""

import signal
import sys
from pathlib import Path

from pocketwatch.stack.stack import Stack


def main(folder: str, lease: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # only the user's end counts
    sys.stdin.buffer.read()
    Stack(Path(folder)).release(lease)


if __name__ == "__main__":
    main(*sys.argv[1:])
