"""What commands print: tables for people, JSON for programs."""

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

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# As wide as the terminal or as COLUMNS says; wide enough to be read when the output is a file or a pipe.
console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160, highlight=False)

SPACES = "\n\t\u00a0\u202f"  # the last two stand within numbers
WIDTHS = {"message_id": 16, "external_id": 16}  # folded, so that there is room for what people read
COLOURS = {
    "succeeded": "green",
    "sent": "green",
    "ok": "green",
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
}


def print_json(value: Any) -> None:
    """Print what a program reads: times as ISO 8601, one document."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=_plain))  # noqa: T201  the command's output


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print what a person reads; a status is coloured by its name."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", max_width=WIDTHS.get(column))
    for row in rows:
        table.add_row(*map(_cell, row))
    console.print(table)


def printable(text: str) -> str:
    """Without what would give orders to the terminal: people and servers have written it, not we."""
    return "".join(sign for sign in text if sign.isprintable() or sign in SPACES)


def _cell(value: object) -> Text:
    if value is None:
        return Text()
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S}")
    if isinstance(value, Mapping):
        return Text(printable(" ".join(_pairs(value))))
    text = printable(str(value))
    return Text(text, style=COLOURS.get(text, ""))


def _pairs(figures: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Of figures within figures, those that say something."""
    for name, figure in figures.items():
        if isinstance(figure, Mapping):
            yield from _pairs({key: each for key, each in figure.items() if each}, f"{within}{name}.")
        else:
            yield f"{within}{name}={figure}"


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
