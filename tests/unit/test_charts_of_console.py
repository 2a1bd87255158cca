"""The geometry of the console's charts."""

from datetime import date, timedelta

from console.web.charts import by_day, sparkline

DAYS = [date(2026, 11, 1) + timedelta(days=n) for n in range(30)]


def test_chart_without_values_is_not_drawn():
    assert by_day("Views", DAYS, {"Views": {}}) is None
    assert by_day("Views", DAYS, {"Views": {date(2020, 1, 1): 5}}) is None


def test_gap_divides_a_line():
    values = {day: index for index, day in enumerate(DAYS) if index not in (10, 12)}

    chart = by_day("Views", DAYS, {"Views": values})

    assert chart is not None
    (line,) = chart.lines
    assert len(line.paths) == 2
    assert len(line.points) == 1
    assert chart.rows[0] == (DAYS[-1], [29])
    assert chart.rows[-11] == (DAYS[10], [None])


def test_axis_has_round_numbers_around_all_values():
    counts = by_day("Views", DAYS, {"Views": {DAYS[0]: 1, DAYS[1]: 12_345}})
    rates = by_day("USD", DAYS, {"NBU": {DAYS[0]: 41.23}, "PB": {DAYS[1]: 41.61}}, from_zero=False)
    constant = by_day("USD", DAYS, {"NBU": {DAYS[0]: 41.0, DAYS[1]: 41.0}}, from_zero=False)

    assert counts is not None
    assert [text for _, text in counts.y_ticks] == ["0", "5\u202f000", "10\u202f000", "15\u202f000"]
    assert rates is not None
    assert [text for _, text in rates.y_ticks] == ["41.2", "41.3", "41.4", "41.5", "41.6", "41.7"]
    assert constant is not None
    assert len({text for _, text in constant.y_ticks}) > 1
    for chart in (counts, rates, constant):
        assert all(0 <= y <= chart.height for y, _ in chart.y_ticks)
        assert len(chart.x_ticks) <= 6


def test_sparkline_needs_two_values():
    assert sparkline([None, 4]) is None
    assert sparkline([1, None, 3]) == "M0.0 26.0L120.0 2.0"
    assert sparkline([5, 5]) == "M0.0 26.0L120.0 26.0"
