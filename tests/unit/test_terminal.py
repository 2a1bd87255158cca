"""What people read of figures: nothing that says nothing, nothing that the terminal would take for a colour."""

import pytest
from rich.console import Console

from pocketwatch import terminal


def shown(value: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(terminal.console, "width", 300)
    terminal.print_table("figures", ["statistics"], [[value]])
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


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("no [/b] such user [red]", "no [/b] such user [red]"),
        ("\\[/b] and a backslash \\", "\\[/b] and a backslash \\"),
        ("\x1b[2Jgone\x07\u202e", "[2Jgone"),
        ("1\u00a0025 letters", "1\u00a0025 letters"),
    ],
)
def test_what_others_have_written_gives_no_orders(
    said: str, read: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert f" {read} " in shown(said, capsys, monkeypatch)
    assert f"reply={read} " in shown({"reply": said}, capsys, monkeypatch)


def test_a_status_is_coloured_by_its_name(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(terminal, "console", Console(force_terminal=True, color_system="standard", width=80))

    assert "\x1b[31mfailed" in shown("failed", capsys, monkeypatch)
