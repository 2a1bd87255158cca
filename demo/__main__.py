"""`make demo` and `make up`.

    python -m demo          private servers, a small marketplace, every job by hand and by schedule, and the results
    python -m demo --stay   the same servers and marketplace, and the suite in the foreground until Ctrl-C

Never uses servers configured by URL, because it inserts and deletes rows.
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
    """Return the exit code, 0 if every job did its work."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__.splitlines()[0])
    parser.add_argument("--stay", action="store_true", help="run the suite in the foreground until Ctrl-C")
    began = time.monotonic()
    for name in up.SERVER_SETTINGS & os.environ.keys():
        console.print(f"{name} is ignored; the demo starts its own servers")
    try:
        if parser.parse_args().stay:
            up.stay(console)
            return 0
        succeeded = tour(console)
    except PocketwatchError as error:
        console.print(f"[red]{error}[/]", markup=True)
        return 1
    except KeyboardInterrupt:
        return 130
    verdict = "[green]everything worked[/]" if succeeded else "[red]something went wrong[/]"
    console.print(f"{verdict}, in {time.monotonic() - began:.0f} s; all servers and processes are stopped")
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
