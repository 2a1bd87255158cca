"""Side-by-side tables against the peers, each contender's work checked.

    python -m bench                      all of them, in about a quarter of an hour
    python -m bench tokens media         chosen ones
    python -m bench events --quick       small sizes, to see that it works; its figures mean nothing

Starts servers of its own, durable as in production, and stops and deletes them at the end.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from rich.console import Console

from bench import analytics, events, mail, media, overview, publish, tokens
from bench.servers import Wrong, started
from pocketwatch.errors import PocketwatchError

BENCHES = {
    "tokens": tokens.run,
    "tokens-memory": tokens.run_memory,
    "media": media.run,
    "events": events.run,
    "events-row": events.run_row,
    "publish": publish.run,
    "mail": mail.run,
    "mail-memory": mail.run_memory,
    "analytics": analytics.run,
    "platform": overview.run,
}
# On servers of their own, or none: how a job grows, the way to a mail server, how well the rules judge. Also as
# `python -m bench.sessions 200000 1000000`.
GROWTH = ("sessions", "rates", "purge_logs", "smtp", "moderation")
NAMES = (*BENCHES, *GROWTH)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What is asked for: all benches when none is named."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"any of: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    asked = parser.parse_args(words)
    if unknown := [name for name in asked.benches if name not in NAMES]:
        parser.error(f'there is no bench "{unknown[0]}"; known are {", ".join(NAMES)}')
    asked.benches = asked.benches or list(NAMES)
    return asked


def main() -> int:
    """The exit code: 0 when every contender did its work."""
    asked = arguments()
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    progress = Console(stderr=True, highlight=False)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that what was started is stopped
    try:
        compared = [name for name in asked.benches if name in BENCHES]
        with started(progress.print) if compared else nullcontext() as servers:
            for name in compared:
                progress.print(f"[bold]{name}[/]")
                console.print(BENCHES[name](servers, progress.print, quick=asked.quick), "")
        for name in asked.benches:
            if name in GROWTH:
                progress.print(f"[bold]{name}[/]")
                subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)
    except (PocketwatchError, Wrong) as error:
        progress.print(f"[red]{type(error).__name__}[/]: {error}", markup=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
