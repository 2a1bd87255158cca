"""What people read of figures: nothing that says nothing, nothing that the terminal would take for a colour."""

import pytest

from pocketwatch.cli import output


def shown(value: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(output.console, "width", 300)
    output.print_table("figures", ["statistics"], [[value]])
    return capsys.readouterr().out


def test_figures_within_figures_are_named_by_their_place_and_those_of_nothing_are_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    statistics = {
        "scanned": 0,
        "patterns": {"session:*": {"deleted": 0, "errors": []}, "user:*": {"deleted": 150, "errors": []}},
    }

    text = shown(statistics, capsys, monkeypatch)

    assert "scanned=0 patterns.user:*.deleted=150 " in text
    assert "session:*" not in text


def test_a_list_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    assert "missing=['day', 'bold']" in shown({"missing": ["day", "bold"]}, capsys, monkeypatch)
    assert "missing=[bold]" in shown({"missing": "[bold]"}, capsys, monkeypatch)
