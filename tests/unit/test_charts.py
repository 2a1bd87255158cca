"""Charts of the daily report are small, localized, and leave nothing in memory."""

import gc
import io
import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from typing import get_args

import pytest
from PIL import Image

from consumers.analytics.report.daily_report import email_of
from consumers.analytics.report.figures import ACTIONS, DayFigures, compare
from consumers.analytics.report.payload import payload
from consumers.mail.compose import images
from consumers.mail.compose.charts import charts_of, png
from schemas.emails import FigureName, Gap, ReportGap
from schemas.locale import LOCALES
from templates.figures import figure_labels

SIZE = (1120, 520)  # dots, two for each CSS pixel
MOST = 25_000  # bytes


def image_of(chart) -> Image.Image:
    return Image.open(io.BytesIO(png(chart)))


def charts(report, locale: str):
    return charts_of(email_of(report), locale)


def with_day(report, **values: int | None):
    """Return the report with other figures of its day."""
    last = report.history[-1]
    history = [*report.history[:-1], DayFigures(last.day, {**last.values, **values})]
    figures = [figure.model_copy(update={"value": values.get(figure.name, figure.value)}) for figure in report.figures]
    return replace(report, history=history, figures=figures)


@pytest.mark.parametrize("locale", LOCALES)
def test_charts_are_small_and_sharp(busy_report, locale):
    found = charts(busy_report, locale)

    assert [chart.content_id for chart in found] == ["views", "people", "decisions"]
    for chart in found:
        image = image_of(chart)
        assert (image.format, image.size) == ("PNG", SIZE)
        assert len(png(chart)) < MOST


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("uk", "Перегляди: 1 309 345 (19 листопада); за 28 днів найменше 1 014 669, найбільше 1 346 216"),
        ("en", "Views: 1,309,345 on 19 November; least 1,014,669, most 1,346,216 in 28 days"),
        ("ru", "Просмотры: 1 309 345 (19 ноября); за 28 дней меньше всего 1 014 669, больше всего 1 346 216"),
    ],
)
def test_alt_text_has_the_numbers_of_a_chart(busy_report, locale, words):
    views = charts(busy_report, locale)[0]

    assert views.alt.replace("\xa0", " ") == words


def test_alt_text_has_the_number_of_each_decision(busy_report):
    decisions = charts(busy_report, "en")[2]

    assert decisions.alt == (
        "Decisions of the day: Approved 1,268, Sent back to be changed 131, Rejected 57, Left to a person 24, "
        "Attempts used up 2"
    )


def test_day_of_the_report_is_darker_in_grayscale(busy_report):
    image = image_of(charts(busy_report, "en")[0]).convert("L")

    row = [image.getpixel((x, 420)) for x in range(image.width)]
    of_the_day, of_others = (sum(low < tone < high for tone in row) for low, high in ((70, 110), (185, 215)))
    assert 15 < of_the_day < 45
    assert of_others > 400


def test_unknown_figures_are_not_drawn(busy_report, unknown_report):
    without_decisions = with_day(busy_report, **dict.fromkeys(ACTIONS))

    assert [chart.content_id for chart in charts(without_decisions, "en")] == ["views", "people"]
    assert charts(unknown_report, "en") == []


def test_alt_text_says_that_a_day_is_unknown(busy_report):
    drawn = charts(with_day(busy_report, views=None, new_ads=None, new_users=None), "en")

    assert drawn[0].alt.startswith("Views: unknown on 19 November; least ")
    assert drawn[1].alt.startswith("New ads: unknown on 19 November; least ")


@pytest.mark.parametrize("count", [0, 1, 9, 10**9])
def test_any_number_can_be_drawn(busy_report, count):
    history = [DayFigures(day.day, {**day.values, "views": count}) for day in busy_report.history]

    views = charts(replace(busy_report, history=history), "uk")[0]

    assert image_of(views).size == SIZE


def test_drawn_charts_leave_no_figure_in_memory(busy_report):
    import matplotlib.figure as library  # noqa: PLC0415  only where charts are drawn
    import matplotlib.pyplot as plt  # noqa: PLC0415

    for _ in range(7):  # more charts than the 20 figures at which pyplot warns
        for chart in charts(busy_report, "en"):
            png(chart)

    gc.collect()
    assert plt.get_fignums() == []
    assert [one for one in gc.get_objects() if issubclass(type(one), library.Figure)] == []


def test_matplotlib_is_imported_only_when_a_chart_is_drawn():
    code = "import consumers.app, json, sys; print(json.dumps([n for n in sys.modules if n.startswith('matplotlib')]))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("locale", LOCALES)
def test_every_figure_and_gap_has_its_label(unknown_report, locale):
    every_gap = replace(unknown_report, missing=[ReportGap(what=gap) for gap in get_args(Gap)])

    assert set(figure_labels(locale)) == set(get_args(FigureName))
    assert all(gap["label"] for gap in payload(every_gap, locale)["missing"])


async def test_charts_of_a_report_are_drawn_once_per_locale(busy_report):
    first, second = [await images.load(email_of(busy_report), "uk") for _ in range(2)]
    other = await images.load(email_of(busy_report), "en")

    assert first is second
    assert [image.data for image in first] != [image.data for image in other]


def test_changes_compare_with_the_day_before_and_the_same_weekday(busy_report):
    history = [
        DayFigures(busy_report.day - timedelta(days=back), {**busy_report.history[-1].values, "views": views})
        for back, views in ((back, {0: 30, 1: 20, 7: 10, 28: 20}.get(back)) for back in range(28, -1, -1))
    ]

    views = compare(history)[0]

    assert (views.value, views.day_before, views.weekday_mean) == (30, 20, 15.0)
    assert (views.change, views.change_to_usual) == (0.5, 1.0)
