"""`make demo` and `make up`.

    python -m demo          servers of its own, a small marketplace, every job by hand and by schedule, what happened
    python -m demo --stay   the same servers and marketplace, and the whole suite in the foreground until Ctrl-C

Never uses servers that are given by URL: it makes and deletes rows.
"""

import argparse
import os
import sys
import time

from rich.console import Console

from demo import up
from demo.tour import tour
from pocketwatch.errors import PocketwatchError

console = Console(highlight=False)


def main() -> int:
    """The exit code: 0 when every job did what it should."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0])
    parser.add_argument("--stay", action="store_true", help="run the suite in the foreground until Ctrl-C")
    began = time.monotonic()
    for name in up.SERVER_SETTINGS & os.environ.keys():
        console.print(f"{name} is set; the demo makes servers of its own all the same")
    try:
        if parser.parse_args().stay:
            up.stay(console)
            return 0
        is_right = tour(console)
    except PocketwatchError as error:
        console.print(f"[red]{error}[/]", markup=True)
        return 1
    except KeyboardInterrupt:
        return 130
    verdict = "[green]everything did what it should[/]" if is_right else "[red]something is not as it should be[/]"
    console.print(f"{verdict}, in {time.monotonic() - began:.0f} s; all servers and processes are stopped")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
