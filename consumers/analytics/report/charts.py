"""Small charts of the daily report, as PNG images that are readable in grey, each with its numbers in words.

Matplotlib is imported when the first chart is drawn: it costs a process memory that most processes never need. Nothing
of it is kept from one chart to the next.
"""

import base64
from collections.abc import Callable, Sequence
from datetime import date
from io import BytesIO
from typing import TYPE_CHECKING, Any

from babel.dates import format_date
from babel.numbers import format_compact_decimal, format_decimal

from consumers.analytics.report.figures import DECISIONS, Past, Report
from consumers.analytics.report.translations import WORDS
from schemas.emails import FigureName, ReportChart
from schemas.locale import Locale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 5.6, 2.6  # inches, of a hundred CSS pixels each
DOTS_PER_INCH = 200  # two for each CSS pixel
COLOURS = 32  # enough for two tones and their edges, in a third of the bytes
TITLE, TEXT = 14, 13  # points; a telephone shows them at half their size
DARK, MIDDLE, PALE, INK = "#1a5fb4", "#5f7fa8", "#b9cbe2", "#3a3f46"
ROOM = 1.18  # above what is highest, for its number
WEEK = 7
BESIDE = 7  # bars that a number is as wide as

Draw = Callable[["Axes"], None]


def draw(report: Report, locale: Locale) -> list[ReportChart]:
    """The charts of a report, without those of which nothing is known. Takes half a second: for a thread of its own."""
    made = (_views(report, locale), _people(report, locale), _decisions(report, locale))
    return [chart for chart in made if chart is not None]


def _views(report: Report, locale: Locale) -> ReportChart | None:
    """A bar a day, the report's own the darkest, and labelled."""
    counts = _of(report.lately, "views")
    if not _known(counts):
        return None

    def bars(axes: "Axes") -> None:
        tones = [*[PALE] * (len(counts) - 1), DARK]
        axes.bar(range(len(counts)), [count or 0 for count in counts], color=tones, width=0.8)
        if counts[-1] is not None:
            axes.annotate(
                _number(counts[-1], locale),
                (len(counts) - 1, max(_known(counts[-BESIDE:]))),
                ha="right",
                va="bottom",
                xytext=(4, 1),
                textcoords="offset points",
                fontsize=TEXT,
                color=INK,
                weight="bold",
            )
        _scale(axes, report.lately, max(_known(counts)), locale)

    words = WORDS[locale]
    return _chart("views", words.views, _alt(report.lately, ("views",), locale), bars)


def _people(report: Report, locale: Locale) -> ReportChart | None:
    """Two lines that differ in their dashes, too; each is named at its end."""
    ads, users = _of(report.lately, "new_ads"), _of(report.lately, "new_users")
    if not _known(ads):
        return None
    words = WORDS[locale]

    def lines(axes: "Axes") -> None:
        for label, counts, dashes, colour in (
            (words.lines[0], ads, "-", DARK),
            (words.lines[1], users, "--", MIDDLE),
        ):
            known = [float("nan") if count is None else count for count in counts]
            axes.plot(known, dashes, color=colour, linewidth=2, label=label)
            axes.plot(len(known) - 1, known[-1], "o", color=colour, markersize=5)
        _scale(axes, report.lately, max(_known([*ads, *users])), locale)
        axes.legend(loc="upper left", fontsize=TEXT, frameon=False, ncols=2, labelcolor=INK, borderaxespad=0)

    return _chart("people", words.people, _alt(report.lately, ("new_ads", "new_users"), locale), lines)


def _decisions(report: Report, locale: Locale) -> ReportChart | None:
    """A bar an outcome, with its number."""
    words, of_day = WORDS[locale], report.lately[-1].values
    counts = [of_day[name] or 0 for name in DECISIONS]
    if of_day[DECISIONS[0]] is None or not any(counts):
        return None
    labels = [words.figures[name] for name in DECISIONS]

    def bars(axes: "Axes") -> None:
        drawn = axes.barh(labels, counts, color=[DARK, *[MIDDLE] * (len(counts) - 1)], height=0.66)
        numbers = [_number(count, locale) for count in counts]
        axes.bar_label(drawn, labels=numbers, padding=4, fontsize=TEXT, color=INK)
        axes.set_xlim(0, max(counts) * ROOM)
        axes.invert_yaxis()
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)

    alt = ", ".join(f"{label} {_number(count, locale)}" for label, count in zip(labels, counts, strict=True))
    return _chart("decisions", words.decisions, f"{words.decisions}: {alt}", bars)


def _of(lately: Sequence[Past], name: FigureName) -> list[int | None]:
    return [past.values[name] for past in lately]


def _known(counts: Sequence[int | None]) -> list[int]:
    return [count for count in counts if count is not None]


def _scale(axes: "Axes", lately: Sequence[Past], highest: int, locale: Locale) -> None:
    """Days along the bottom, counted in weeks from the report's own; three round numbers at the side."""
    places = range(len(lately) - 1, -1, -WEEK)
    axes.set_xticks(list(places), [_day(lately[place].day, locale) for place in places])
    axes.set_xlim(-0.7, len(lately) - 0.3)
    axes.set_ylim(0, max(highest * ROOM * 1.12, 1))
    axes.locator_params(axis="y", nbins=3, integer=True)
    axes.yaxis.set_major_formatter(lambda value, _: format_compact_decimal(value, locale=locale, fraction_digits=1))
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)


def _alt(lately: Sequence[Past], names: Sequence[FigureName], locale: Locale) -> str:
    """The report's own number, the least and the most, of each."""
    words, parts = WORDS[locale], []
    for name in names:
        counts = _of(lately, name)
        value = words.nobody_knows if counts[-1] is None else _number(counts[-1], locale)
        least, most = (_number(end(_known(counts)), locale) for end in (min, max))
        day = format_date(lately[-1].day, "d MMMM", locale=locale)
        parts.append(words.alt_day.format(what=words.figures[name], value=value, day=day, least=least, most=most))
    return ". ".join(parts)


def _number(count: int, locale: Locale) -> str:
    return format_decimal(count, locale=locale)


def _day(day: date, locale: Locale) -> str:
    return format_date(day, "d MMM", locale=locale)


def _chart(content_id: str, title: str, alt: str, draw_into: Draw) -> ReportChart:
    return ReportChart(content_id=content_id, alt=alt, png=base64.b64encode(_png(title, draw_into)).decode())


def _png(title: str, draw_into: Draw) -> bytes:
    """A figure of its own, which nothing else knows of: pyplot would keep it, and its settings are everybody's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  see above
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)  # has no types
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=TEXT, labelcolor=INK, length=0)
    draw_into(axes)
    figure.suptitle(title, x=0.01, ha="left", fontsize=TITLE, color=INK, weight="bold")
    canvas.draw()
    return _compressed(canvas.buffer_rgba(), canvas.get_width_height())


def _compressed(pixels: Any, size: tuple[int, int]) -> bytes:
    """As a palette image."""
    from PIL import Image  # noqa: PLC0415  Matplotlib needs it, too

    image = Image.frombuffer("RGBA", size, pixels).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
