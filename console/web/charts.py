"""Line charts as inline SVG: the geometry of one, which a template draws with a table beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import floor, log10

WIDTH, HEIGHT = 640, 200  # of the view box
LEFT, RIGHT, TOP, BOTTOM = 56, 8, 10, 22  # margins: for the numbers at the left, and the days below
MAX_Y_TICKS = 5
MAX_X_TICKS = 6
Value = float | None


@dataclass(frozen=True, slots=True)
class Line:
    """One series: parts of a path, between gaps, and where single values stand.

    Args:
        number: from 1, which chooses its colour and its dashes.
    """

    name: str
    number: int
    paths: list[str]
    points: list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of values by day; `rows` are the same as a table, newest first."""

    title: str
    lines: list[Line]
    y_ticks: list[tuple[float, str]]
    x_ticks: list[tuple[float, str]]
    rows: list[tuple[date, list[Value]]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT

    @property
    def names(self) -> list[str]:
        return [line.name for line in self.lines]


def by_day(
    title: str, days: Sequence[date], series: Mapping[str, Mapping[date, float]], *, from_zero: bool = True
) -> Chart | None:
    """Chart series of values by day; None when there are no values.

    Args:
        days: the days of the axis, in order; a series without a value has a gap there.
        from_zero: whether the axis begins at zero; else around the values, whose changes are small.
    """
    values = [value for each in series.values() for day, value in each.items() if day in set(days)]
    if not values:
        return None
    ticks = _ticks(0 if from_zero else min(values), max(values))
    low, high = ticks[0], ticks[-1]
    xs = {day: LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / len(days) for index, day in enumerate(days)}

    def y_of(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    lines = [
        _line(name, number, [(round(xs[day], 1), y_of(each[day])) if day in each else None for day in days])
        for number, (name, each) in enumerate(series.items(), 1)
    ]
    step = -(-len(days) // MAX_X_TICKS)
    return Chart(
        title,
        lines,
        [(y_of(tick), _number(tick, ticks)) for tick in ticks],
        [(round(xs[day], 1), f"{day:%d.%m.}") for day in days[::step]],
        [(day, [each.get(day) for each in series.values()]) for day in reversed(days)],
    )


def _line(name: str, number: int, places: Iterable[tuple[float, float] | None]) -> Line:
    parts: list[list[tuple[float, float]]] = [[]]
    for place in places:
        if place is None:
            parts.append([])
        else:
            parts[-1].append(place)
    paths = ["M" + "L".join(f"{x} {y}" for x, y in part) for part in parts if len(part) > 1]
    return Line(name, number, paths, [part[0] for part in parts if len(part) == 1])


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers that enclose the values."""
    span = high - low or abs(high) * 0.02 or 1
    unit = 10 ** floor(log10(span / MAX_Y_TICKS))
    step = next(unit * factor for factor in (1, 2, 5, 10) if span / (unit * factor) <= MAX_Y_TICKS)
    first, last = floor(low / step), -floor(-high / step)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _number(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    digits = max(0, -floor(log10(step)))
    return f"{value:,.{digits}f}".replace(",", "\u202f")


def sparkline(values: Sequence[Value], *, width: int = 120, height: int = 28) -> str | None:
    """Return the path of a small line; None for less than two values."""
    known = [value for value in values if value is not None]
    if len(known) < 2:  # noqa: PLR2004
        return None
    low, span = min(known), (max(known) - min(known)) or 1
    places = [
        f"{round(index / (len(values) - 1) * width, 1)} {round(height - 2 - (value - low) / span * (height - 4), 1)}"
        for index, value in enumerate(values)
        if value is not None
    ]
    return "M" + "L".join(places)
