"""Output of commands: tables for people, JSON for programs.

A table fits its terminal: it is printed whole; else the columns that do not fit are below each row; else each row is a
block. Words are never broken, and ids never wrapped. Without a terminal it is as wide as its content.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pocketwatch.text import json_printable, printable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# As wide as the terminal or COLUMNS; wide enough to read when the output is a file or a pipe.
console = Console(
    width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160, highlight=False, markup=False, emoji=False
)

MOMENT = "%Y-%m-%d %H:%M:%S"  # UTC, as the header says
GAP = "  "  # between columns
INDENT = "    "  # of what is below a row
LONGEST_WORDS = 30  # characters; longer text is prose, which may be wrapped between words
NARROWEST_PROSE = (36, 22)  # characters, tried in this order; where there is less room for prose, it is below the row
# What an encoding without these characters gets instead; escapes for all others.
ASCII: dict[str, str | int | None] = {"…": "...", "–": "-", "—": "-", "→": "->", "\u00a0": " ", "\u202f": " "}
COLOURS = {
    "succeeded": "green",
    "sent": "green",
    "ok": "green",
    "healthy": "green",
    "partial": "yellow",
    "postponed": "yellow",
    "warning": "yellow",
    "skipped": "yellow",
    "unknown": "yellow",
    "suppressed": "yellow",
    "expired": "yellow",
    "missed": "yellow",
    "running": "cyan",
    "sending": "cyan",
    "starting": "cyan",
    "stopping": "cyan",
    "failed": "red",
    "rejected": "red",
    "abandoned": "red",
    "dead": "red",
    "problem": "red",
    "unhealthy": "red",
    "died": "red",
}

Line = Text
Row = Sequence[list[Line]]  # the lines of each cell


def print_json(value: Any) -> None:
    document = json.dumps(value, ensure_ascii=not _is_utf8(), indent=2, default=_to_json)
    print(json_printable(document))  # noqa: T201  the command's output


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str | None = None
) -> None:
    """Print a table; without rows, `empty`, which says what to do next.

    Moments are shown in UTC. Text is shown as it is, without what could control the terminal.
    """
    shown = [list(row) for row in rows]
    if not shown:
        say(empty or f"no {title}")
        return
    names = [_name(column, [row[index] for row in shown]) for index, column in enumerate(columns)]
    cells = [[_cell(value) for value in row] for row in shown]
    _print(_text(title, style="bold"), *_layout([_text(name) for name in names], cells, _width()))


def print_fields(title: str, fields: Iterable[tuple[str, object]]) -> None:
    """Print one thing: a line for each of its fields, or several for a text of several lines."""
    pairs = list(fields)
    names = [_text(_name(name, [value])) for name, value in pairs]
    _print(_text(title, style="bold"), *_block(names, [_cell(value, lines=True) for _, value in pairs], _width()))


def say(text: str, *, style: str = "") -> None:
    """Print a line, in which nothing is markup, and nothing begins another line."""
    console.print(_text(text, style), soft_wrap=True)


def warn(text: str) -> None:
    """Say on standard error what is wrong, where the command goes on."""
    typer.echo(f"pocketwatch: {_text(text).plain}", err=True)


def print_text(text: str) -> None:
    """Print a text of several lines, in which nothing is markup."""
    for line in text.split("\n"):
        say(line)


def moment(text: str) -> datetime | str:
    """Return the moment that others wrote in ISO 8601, to be shown like all others; other text as it is."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return text
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def duration(seconds: float) -> str:
    """Return a duration as people say it: `0.16 s`, `42 s`, `3 min 20 s`, `5 h 10 min`, `6 d 2 h`."""
    if seconds < 10 and seconds % 1:  # noqa: PLR2004
        return f"{seconds:.2f} s"
    for unit, size, smaller, part in (("d", 86_400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= size:
            rest = int(seconds % size // part)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.0f} s"


def bars() -> str:
    """Return the bars of a chart of one line, the lowest first."""
    return "▁▂▃▄▅▆▇█" if _is_utf8() else "_.-=+*%#"


def _width() -> int | None:
    """Return the columns of the terminal; None for a file or a pipe, whose lines may be of any length."""
    return console.width if console.is_terminal or "COLUMNS" in os.environ else None


def _is_utf8() -> bool:
    return "utf" in (sys.stdout.encoding or "").lower()


def _encodable(text: str) -> str:
    """Replace what the terminal's encoding cannot show."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        simple = text.translate(str.maketrans(ASCII))
        return simple.encode(encoding, "backslashreplace").decode(encoding)
    return text


def _text(value: str, style: str = "") -> Text:
    return Text(_encodable(printable(value.replace("\n", " "), keep="\u00a0\u202f")), style=style)


def _name(column: str, values: Sequence[object]) -> str:
    return f"{column} (UTC)" if any(isinstance(value, datetime) for value in values) else column


def _cell(value: object, *, lines: bool = False) -> list[Line]:
    if value is None:
        return [Text()]
    if isinstance(value, datetime):
        return [Text(f"{value.astimezone(UTC):{MOMENT}}")]
    if isinstance(value, Mapping):
        return [_text(" ".join(_pairs(value)))]
    if isinstance(value, float):
        return [Text(f"{value:.2f}")]
    return [_text(line, style=COLOURS.get(line, "")) for line in (str(value).split("\n") if lines else [str(value)])]


def _pairs(statistics: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Flatten nested statistics to `name=value`, by name, and leave out nested zeros and empty lists.

    The database does not keep the order of names.
    """
    for name, value in sorted(statistics.items()):
        if isinstance(value, Mapping):
            yield from _pairs({key: each for key, each in value.items() if each}, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}={value}"


def _layout(names: Sequence[Text], rows: Sequence[Row], width: int | None) -> Iterator[Line]:
    """Choose the layout: a table, a table with the rest below each row, or a block for each row."""
    natural = [_longest([name, *_column(rows, index)]) for index, name in enumerate(names)]
    if width is None or _total(natural) <= width:
        yield from _table(names, rows, natural)
        return
    unbroken = [_longest_word([name, *_column(rows, index)]) for index, name in enumerate(names)]
    is_prose = [size > LONGEST_WORDS and word < size for size, word in zip(natural, unbroken, strict=True)]
    for least in NARROWEST_PROSE:
        narrowest = [
            max(min(size, least), word) if prose else size
            for size, word, prose in zip(natural, unbroken, is_prose, strict=True)
        ]
        if _total(narrowest) <= width:
            yield from _table(names, rows, _shared(narrowest, natural, width))
            return
    above = _fitting([width if prose else size for size, prose in zip(natural, is_prose, strict=True)], width)
    if len(above) > 1:
        yield from _with_rest_below(names, rows, [natural[index] for index in above], above, width)
        return
    for row in rows:
        yield Text()
        known = [index for index, cell in enumerate(row) if any(line.plain for line in cell)]
        yield from _block([names[index] for index in known], [row[index] for index in known], width)


def _column(rows: Sequence[Row], index: int) -> list[Line]:
    return [line for row in rows for line in row[index]]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _fitting(widths: Sequence[int], width: int) -> list[int]:
    """Return which columns fit on one line, those on the left first."""
    found: list[int] = []
    for index, size in enumerate(widths):
        if _total([*(widths[each] for each in found), size]) <= width:
            found.append(index)
    return found


def _shared(narrowest: Sequence[int], natural: Sequence[int], width: int) -> list[int]:
    """Share the room that is left among the columns that want more."""
    widths, room = list(narrowest), width - _total(narrowest)
    wanted = sum(natural) - sum(narrowest)
    for index, size in enumerate(natural):
        widths[index] += (size - narrowest[index]) * room // max(wanted, 1)
    return widths


def _table(names: Sequence[Text], rows: Iterable[Row], widths: Sequence[int]) -> Iterator[Line]:
    yield _joined([Text(name.plain, style="bold") for name in names], widths)
    for row in rows:
        yield from _lines_of(row, widths)


def _lines_of(row: Row, widths: Sequence[int]) -> Iterator[Line]:
    cells = [_wrapped(cell, size) for cell, size in zip(row, widths, strict=True)]
    for number in range(max(map(len, cells))):
        yield _joined([cell[number] if number < len(cell) else Text() for cell in cells], widths)


def _with_rest_below(
    names: Sequence[Text], rows: Iterable[Row], widths: Sequence[int], above: Sequence[int], width: int
) -> Iterator[Line]:
    yield from _table([names[index] for index in above], [], widths)
    for row in rows:
        yield from _lines_of([row[index] for index in above], widths)
        rest = [index for index in range(len(row)) if index not in above]
        yield from _below([(names[index], row[index]) for index in rest], width)


def _below(cells: Iterable[tuple[Text, list[Line]]], width: int) -> Iterator[Line]:
    """Yield `name: value` of each cell that is not empty; short ones share a line."""
    shared = Text()
    for name, cell in cells:
        label, text = f"{name}: ", cell[0].plain
        size = len(INDENT) + cell_len(label)
        is_short = len(cell) == 1 and cell_len(text) <= LONGEST_WORDS
        if shared and (not is_short or cell_len(shared.plain) + len(GAP) + cell_len(label + text) > width):
            yield shared
            shared = Text()
        if is_short and text:
            shared.append(GAP if shared else INDENT).append(label, "dim").append_text(cell[0])
        elif text:
            first, *others = _wrapped(cell, width - size)
            yield Text(INDENT).append(label, "dim").append_text(first)
            yield from (Text(" " * size).append_text(line) for line in others)
    if shared:
        yield shared


def _block(names: Sequence[Text], row: Row, width: int | None) -> Iterator[Line]:
    size = _longest(names)
    for name, cell in zip(names, row, strict=True):
        room = None if width is None else width - size - len(GAP)
        for number, line in enumerate(_wrapped(cell, room)):
            yield _joined([Text("" if number else name.plain, style="bold"), line], [size, 0])


def _wrapped(cell: list[Line], width: int | None) -> list[Line]:
    """Wrap prose between words; a word that is longer than the width stays whole."""
    if width is None:
        return cell
    return [part for line in cell for part in _words(line, width)]


def _words(line: Line, width: int) -> Iterator[Line]:
    if cell_len(line.plain) <= max(width, LONGEST_WORDS):
        yield line
        return
    part = ""
    for word in line.plain.split(" "):
        if part and cell_len(part) + 1 + cell_len(word) > width:
            yield Text(part, style=line.style)
            part = word
        else:
            part = f"{part} {word}" if part else word
    yield Text(part, style=line.style)


def _joined(cells: Sequence[Line], widths: Sequence[int]) -> Line:
    line = Text()
    for index, (cell, size) in enumerate(zip(cells, widths, strict=True)):
        line.append_text(cell)
        if index < len(cells) - 1:
            line.append(" " * (size - cell_len(cell.plain)) + GAP)
    line.rstrip()
    return line


def _longest(lines: Iterable[Line]) -> int:
    return max((cell_len(line.plain) for line in lines), default=0)


def _longest_word(lines: Iterable[Line]) -> int:
    return max((cell_len(word) for line in lines for word in line.plain.split(" ")), default=0)


def _print(title: Line, *lines: Line) -> None:
    for line in (title, *lines):
        console.print(line, soft_wrap=True)


def _to_json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
