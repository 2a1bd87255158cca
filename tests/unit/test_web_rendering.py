"""How the console's pages show values."""

import pytest
from markupsafe import Markup

from console.web.queries.situation import PAGES
from console.web.rendering import as_text, environment, labelled, prose
from consumers.app import watchdog_checks


def shown(template: str, **values: object) -> str:
    return environment().from_string(template).render(values)


def test_cells_are_labelled_with_their_columns():
    rows = Markup('<tr id="a"><th scope="row">x</th><td colspan="2">1</td><td>2</td></tr><tr><td>y</td></tr>')

    found = labelled(rows, ["Name", ["Count", "number"], "Last", "<b>"])

    assert found == (
        '<tr id="a"><th data-label="Name" scope="row">x</th><td data-label="Count" colspan="2">1</td>'
        '<td data-label="&lt;b&gt;">2</td></tr><tr><td data-label="Name">y</td></tr>'
    )


def test_names_in_docstrings_are_code():
    assert prose("older than `retention_days` <days>") == "older than <code>retention_days</code> &lt;days&gt;"


@pytest.mark.parametrize(("number", "text"), [(0, "0 times"), (1, "1 time"), (2000, "2\u202f000 times")])
def test_nouns_agree_with_their_number(number: int, text: str):
    assert shown("{{ number|plural('time') }}", number=number) == text


@pytest.mark.parametrize("value", [None, "", "soon"])
def test_header_without_a_time_has_none(value: object):
    assert shown("{{ value|parsed is none }}", value=value) == "True"


def test_values_of_json_are_read_as_people_write_them():
    assert [as_text(each) for each in ("a", True, None, ["a", "b"], [1], [])] == [
        "a", "true", "null", "a, b", "[1]", "[]",
    ]  # fmt: skip


def test_each_kind_of_incident_leads_to_a_page():
    kinds = {each.kind for each in watchdog_checks()}

    assert kinds - PAGES.keys() == {"unhealthy"}  # of a process, on the overview itself
    assert PAGES.keys() <= kinds
