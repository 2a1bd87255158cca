"""Charts of the daily report: small, in the reader's language, and gone from memory once they are drawn."""

import base64
import gc
import io
import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from PIL import Image

from consumers.analytics.report import charts
from consumers.analytics.report.figures import DECISIONS, Past, compare
from consumers.analytics.report.translations import WORDS
from schemas.emails import FigureName, Gap
from schemas.locale import LOCALES

SIZE = (1120, 520)  # dots, two for each CSS pixel
MOST = 25_000  # bytes


def image_of(chart) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(chart.png)))


def with_day(report, **values: int | None):
    """The report with other figures of its day."""
    last = report.lately[-1]
    lately = [*report.lately[:-1], Past(last.day, {**last.values, **values})]
    return replace(report, lately=lately)


@pytest.mark.parametrize("locale", LOCALES)
def test_three_charts_are_small_and_sharp(busy_report, locale):
    drawn = charts.draw(busy_report, locale)

    assert [chart.content_id for chart in drawn] == ["views", "people", "decisions"]
    for chart in drawn:
        image = image_of(chart)
        assert (image.format, image.size) == ("PNG", SIZE)
        assert len(base64.b64decode(chart.png)) < MOST


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("uk", "Перегляди: 1 309 345 (19 листопада); за 28 днів найменше 1 014 669, найбільше 1 346 216"),
        ("en", "Views: 1,309,345 on 19 November; least 1,014,669, most 1,346,216 in 28 days"),
        ("ru", "Просмотры: 1 309 345 (19 ноября); за 28 дней меньше всего 1 014 669, больше всего 1 346 216"),
    ],
)
def test_who_cannot_see_a_chart_hears_its_numbers(busy_report, locale, words):
    views = charts.draw(busy_report, locale)[0]

    assert views.alt.replace("\xa0", " ") == words


def test_each_outcome_is_in_words_too(busy_report):
    decisions = charts.draw(busy_report, "en")[2]

    assert decisions.alt == (
        "Decisions of the day: Approved 1,268, Sent back to be changed 131, Rejected 57, Left to a person 24, "
        "Attempts used up 2"
    )


def test_the_day_of_the_report_stands_out_also_in_grey(busy_report):
    image = image_of(charts.draw(busy_report, "en")[0]).convert("L")

    row = [image.getpixel((x, 420)) for x in range(image.width)]
    of_the_day, of_others = (sum(low < tone < high for tone in row) for low, high in ((70, 110), (185, 215)))
    assert 15 < of_the_day < 45
    assert of_others > 400


def test_what_nobody_knows_is_not_drawn_as_none(busy_report, unknown_report):
    without_decisions = with_day(busy_report, **dict.fromkeys(DECISIONS))

    assert [chart.content_id for chart in charts.draw(without_decisions, "en")] == ["views", "people"]
    assert charts.draw(unknown_report, "en") == []


def test_a_day_that_is_unknown_among_others_is_said_to_be(busy_report):
    drawn = charts.draw(with_day(busy_report, views=None, new_ads=None, new_users=None), "en")

    assert drawn[0].alt.startswith("Views: unknown on 19 November; least ")
    assert drawn[1].alt.startswith("New ads: unknown on 19 November; least ")


@pytest.mark.parametrize("count", [0, 1, 9, 10**9])
def test_any_number_has_its_chart(busy_report, count):
    lately = [Past(past.day, {**past.values, "views": count}) for past in busy_report.lately]

    views = charts.draw(replace(busy_report, lately=lately), "uk")[0]

    assert image_of(views).size == SIZE


def test_fifty_charts_leave_no_figure_behind(busy_report):
    import matplotlib.figure as library  # noqa: PLC0415  only where charts are drawn
    import matplotlib.pyplot as plt  # noqa: PLC0415

    for _ in range(17):
        charts.draw(busy_report, "en")

    gc.collect()
    assert plt.get_fignums() == []
    assert [one for one in gc.get_objects() if issubclass(type(one), library.Figure)] == []


def test_a_process_that_draws_nothing_does_not_pay_for_the_library():
    code = "import consumers.app, json, sys; print(json.dumps([n for n in sys.modules if n.startswith('matplotlib')]))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("locale", LOCALES)
def test_every_figure_and_gap_has_its_words(locale):
    words = WORDS[locale]

    assert set(words.figures) == set(FigureName.__args__)
    assert set(words.gaps) == set(Gap.__args__)


def test_a_change_compares_with_the_day_before_and_with_the_same_weekday(busy_report):
    lately = [
        Past(busy_report.day - timedelta(days=back), {**busy_report.lately[-1].values, "views": views})
        for back, views in ((back, {0: 30, 1: 20, 7: 10, 28: 20}.get(back)) for back in range(28, -1, -1))
    ]

    views = compare(lately)[0]

    assert (views.value, views.day_before, views.weekday_mean) == (30, 20, 15.0)
    assert (views.change, views.change_to_usual) == (0.5, 1.0)
