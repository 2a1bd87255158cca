"""Side-by-side tables against the peers, each contender's work checked.

    python -m bench                      all of them, in about an hour
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

from bench import (
    analytics,
    console,
    events,
    mail,
    media,
    notices,
    overview,
    publish,
    scale,
    schedule,
    start,
    stored_runs,
    ticks,
    tokens,
)
from bench.servers import WorkNotDone, started
from pocketwatch.errors import PocketwatchError

BENCHES = {
    "tokens": tokens.run,
    "tokens-memory": tokens.run_memory,
    "media": media.run,
    "events": events.run,
    "events-row": events.run_row,
    "scale": scale.run,
    "publish": publish.run,
    "mail": mail.run,
    "mail-memory": mail.run_memory,
    "analytics": analytics.run,
    "platform": overview.run,
    "notices": notices.run,
    "ticks": ticks.run,
    "schedule": schedule.run,
    "start": start.run,
    "console": console.run,
    "stored_runs": stored_runs.run,
}
# On servers of their own, or none: how jobs scale, SMTP alone, the quality of the moderation rules. Also as
# `python -m bench.sessions 200000 1000000`.
STANDALONE = ("sessions", "rates", "purge_logs", "smtp", "moderation")
NAMES = (*BENCHES, *STANDALONE)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; all benches when none is named."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"any of: {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds")
    chosen = parser.parse_args(words)
    if unknown := [name for name in chosen.benches if name not in NAMES]:
        parser.error(f'there is no bench "{unknown[0]}"; known: {", ".join(NAMES)}')
    chosen.benches = chosen.benches or list(NAMES)
    return chosen


def main() -> int:
    """Run the benches; return 0 when every contender did its work."""
    chosen = arguments()
    output = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    progress = Console(stderr=True, highlight=False)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that servers are stopped
    try:
        compared = [name for name in chosen.benches if name in BENCHES]
        with started(progress.print) if compared else nullcontext() as servers:
            for name in compared:
                progress.print(f"[bold]{name}[/]")
                output.print(BENCHES[name](servers, progress.print, quick=chosen.quick), "")
        for name in chosen.benches:
            if name in STANDALONE:
                progress.print(f"[bold]{name}[/]")
                subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)
    except (PocketwatchError, WorkNotDone) as error:
        progress.print(f"[red]{type(error).__name__}[/]: {error}", markup=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
