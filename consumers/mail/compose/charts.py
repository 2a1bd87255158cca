"""Draw the charts of the daily report as small PNG images, each with its numbers in words.

Matplotlib is imported when the first chart is drawn: most processes draw none, and it takes memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from babel.dates import format_date
from babel.numbers import format_compact_decimal, format_decimal

from schemas.emails import DailyReportEmail, ReportDay
from schemas.locale import Locale
from templates.figures import figure_labels
from templates.translations import translations

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 5.6, 2.6  # inches, of a hundred CSS pixels each
DOTS_PER_INCH = 200  # two for each CSS pixel
COLOURS = 32  # two tones and their edges, in a third of the bytes
TITLE, TEXT = 14, 13  # points; a phone shows them at half their size
DARK, MIDDLE, PALE, INK = "#1a5fb4", "#5f7fa8", "#b9cbe2", "#3a3f46"
HEADROOM = 1.18  # above the highest value, for its number
WEEK = 7
NUMBER_WIDTH = 7  # bars

Series = Literal["views", "new_ads", "new_users"]


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart that is not drawn yet; the HTML shows it as `cid:<content_id>`."""

    content_id: str
    title: str
    alt: str
    draw: Callable[["Axes"], None]


def charts_of(report: DailyReportEmail, locale: Locale) -> list[Chart]:
    """Return the charts of a report, without those whose figures are unknown."""
    return [chart for chart in (_views(report, locale), _people(report, locale), _decisions(report, locale)) if chart]


def _views(report: DailyReportEmail, locale: Locale) -> Chart | None:
    """Draw a bar per day, the report's own the darkest and labelled."""
    history, counts = report.history, [day.views for day in report.history]
    if not _known(counts):
        return None

    def draw(axes: "Axes") -> None:
        tones = [*[PALE] * (len(counts) - 1), DARK]
        axes.bar(range(len(counts)), [count or 0 for count in counts], color=tones, width=0.8)
        if counts[-1] is not None:
            axes.annotate(
                format_decimal(counts[-1], locale=locale),
                (len(counts) - 1, max(_known(counts[-NUMBER_WIDTH:]))),
                ha="right",
                va="bottom",
                xytext=(4, 1),
                textcoords="offset points",
                fontsize=TEXT,
                color=INK,
                weight="bold",
            )
        _scale(axes, history, max(_known(counts)), locale)

    title = translations(locale).pgettext("chart", "Views, last 28 days")
    return Chart("views", title, _alt(history, ("views",), locale), draw)


def _people(report: DailyReportEmail, locale: Locale) -> Chart | None:
    """Draw two lines, which differ in their dashes too, and a legend."""
    history, texts = report.history, translations(locale)
    ads, users = [day.new_ads for day in history], [day.new_users for day in history]
    if not _known(ads):
        return None

    def draw(axes: "Axes") -> None:
        for label, counts, dashes, colour in (
            (texts.pgettext("chart", "Ads"), ads, "-", DARK),
            (texts.pgettext("chart", "Users"), users, "--", MIDDLE),
        ):
            known = [float("nan") if count is None else count for count in counts]
            axes.plot(known, dashes, color=colour, linewidth=2, label=label)
            axes.plot(len(known) - 1, known[-1], "o", color=colour, markersize=5)
        _scale(axes, history, max(_known([*ads, *users])), locale)
        axes.legend(loc="upper left", fontsize=TEXT, frameon=False, ncols=2, labelcolor=INK, borderaxespad=0)

    title = texts.pgettext("chart", "New ads and new users, last 28 days")
    return Chart("people", title, _alt(history, ("new_ads", "new_users"), locale), draw)


def _decisions(report: DailyReportEmail, locale: Locale) -> Chart | None:
    """Draw a bar per outcome, with its number."""
    decisions = [figure for figure in report.figures if figure.name.startswith("decisions_")]
    counts = [figure.value or 0 for figure in decisions]
    if not any(counts) or decisions[0].value is None:
        return None
    labels = [figure_labels(locale)[figure.name] for figure in decisions]
    numbers = [format_decimal(count, locale=locale) for count in counts]

    def draw(axes: "Axes") -> None:
        bars = axes.barh(labels, counts, color=[DARK, *[MIDDLE] * (len(counts) - 1)], height=0.66)
        axes.bar_label(bars, labels=numbers, padding=4, fontsize=TEXT, color=INK)
        axes.set_xlim(0, max(counts) * HEADROOM)
        axes.invert_yaxis()
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)

    title = translations(locale).pgettext("chart", "Decisions of the day")
    words = ", ".join(f"{label} {number}" for label, number in zip(labels, numbers, strict=True))
    return Chart("decisions", title, f"{title}: {words}", draw)


def _known(counts: Sequence[int | None]) -> list[int]:
    return [count for count in counts if count is not None]


def _scale(axes: "Axes", history: Sequence[ReportDay], highest: int, locale: Locale) -> None:
    """Label every seventh day along the bottom, back from the report's own, and three round numbers at the side."""
    places = range(len(history) - 1, -1, -WEEK)
    axes.set_xticks(list(places), [format_date(history[place].day, "d MMM", locale=locale) for place in places])
    axes.set_xlim(-0.7, len(history) - 0.3)
    axes.set_ylim(0, max(highest * HEADROOM * 1.12, 1))
    axes.locator_params(axis="y", nbins=3, integer=True)
    axes.yaxis.set_major_formatter(lambda value, _: format_compact_decimal(value, locale=locale, fraction_digits=1))
    axes.grid(axis="y", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)


def _alt(history: Sequence[ReportDay], names: Sequence[Series], locale: Locale) -> str:
    """Put the day's own number, the least and the most of each series in words."""
    texts, parts = translations(locale), []
    for name in names:
        counts: list[int | None] = [getattr(day, name) for day in history]
        numbers = [None if count is None else format_decimal(count, locale=locale) for count in counts]
        known = _known(counts)
        words = texts.pgettext("chart", "%(what)s: %(value)s on %(day)s; least %(least)s, most %(most)s in 28 days")
        parts.append(
            words
            % {
                "what": figure_labels(locale)[name],
                "value": texts.pgettext("chart", "unknown") if numbers[-1] is None else numbers[-1],
                "day": format_date(history[-1].day, "d MMMM", locale=locale),
                "least": format_decimal(min(known), locale=locale),
                "most": format_decimal(max(known), locale=locale),
            }
        )
    return ". ".join(parts)


def png(chart: Chart) -> bytes:
    """Draw a chart, which takes about 0.2 s. Nothing is kept: pyplot would hold the figure, and share its settings."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  see above
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(WIDTH, HEIGHT), dpi=DOTS_PER_INCH, layout="constrained", facecolor="white")
    canvas: Any = FigureCanvasAgg(figure)  # has no types
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=TEXT, labelcolor=INK, length=0)
    chart.draw(axes)
    figure.suptitle(chart.title, x=0.01, ha="left", fontsize=TITLE, color=INK, weight="bold")
    canvas.draw()
    return _compressed(canvas.buffer_rgba(), canvas.get_width_height())


def _compressed(pixels: Any, size: tuple[int, int]) -> bytes:
    """Return a palette image."""
    from PIL import Image  # noqa: PLC0415  a dependency of Matplotlib

    image = Image.frombuffer("RGBA", size, pixels).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
