"""Output of commands: tables for people, JSON for programs."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pocketwatch.text import json_printable, printable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# As wide as the terminal or COLUMNS; wide enough to read when the output is a file or a pipe.
console = Console(
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160, highlight=False, markup=False, emoji=False
)

WIDTHS = {"message_id": 16, "external_id": 16}  # long ids are folded, to leave room for the other columns
COLOURS = {
    "succeeded": "green",
    "sent": "green",
    "ok": "green",
    "healthy": "green",
    "partial": "yellow",
    "warning": "yellow",
    "skipped": "yellow",
    "unknown": "yellow",
    "suppressed": "yellow",
    "expired": "yellow",
    "running": "cyan",
    "sending": "cyan",
    "failed": "red",
    "rejected": "red",
    "dead": "red",
    "problem": "red",
    "unhealthy": "red",
    "died": "red",
}


def print_json(value: Any) -> None:
    is_utf8 = "utf" in (sys.stdout.encoding or "").lower()
    document = json.dumps(value, ensure_ascii=not is_utf8, indent=2, default=_to_json)
    print(json_printable(document))  # noqa: T201  the command's output


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(title=Text(printable(title)), title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", max_width=WIDTHS.get(column))
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def say(text: str, *, style: str = "") -> None:
    """Print a text, in which nothing is markup."""
    console.print(Text(printable(text), style=style), soft_wrap=True)


def _cell(value: object) -> Text:
    if value is None:
        return Text()
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}")
    if isinstance(value, Mapping):
        return Text(printable(" ".join(_pairs(value))))
    text = printable(str(value))
    return Text(text, style=COLOURS.get(text, ""))


def _pairs(statistics: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Flatten nested statistics to `name=value`, and leave out nested zeros and empty lists."""
    for name, value in statistics.items():
        if isinstance(value, Mapping):
            yield from _pairs({key: each for key, each in value.items() if each}, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={value}"


def _to_json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
