"""Tables on the terminal."""

import pytest
from rich.console import Console

from pocketwatch import terminal


def shown(value: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(terminal.console, "width", 300)
    terminal.print_table("figures", ["statistics"], [[value]])
    return capsys.readouterr().out


def test_nested_statistics_are_flattened_without_zeros(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    statistics = {
        "scanned": 0,
        "patterns": {"session:*": {"deleted": 0, "errors": []}, "user:*": {"deleted": 150, "errors": []}},
    }

    text = shown(statistics, capsys, monkeypatch)

    assert "scanned=0 patterns.user:*.deleted=150 " in text
    assert "session:*" not in text


def test_lists_are_shown_unchanged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    assert "missing=['day', 'bold']" in shown({"missing": ["day", "bold"]}, capsys, monkeypatch)
    assert "missing=[bold]" in shown({"missing": "[bold]"}, capsys, monkeypatch)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no [/b] such user [red]", "no [/b] such user [red]"),
        ("\\[/b] and a backslash \\", "\\[/b] and a backslash \\"),
        ("\x1b[2Jgone\x07\u202e", "[2Jgone"),
        ("1\u00a0025 emails", "1\u00a0025 emails"),
    ],
)
def test_foreign_text_cannot_control_the_terminal(
    text: str, expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    assert f" {expected} " in shown(text, capsys, monkeypatch)
    assert f"reply={expected} " in shown({"reply": text}, capsys, monkeypatch)


def test_statuses_are_coloured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(terminal, "console", Console(force_terminal=True, color_system="standard", width=80))

    assert "\x1b[31mfailed" in shown("failed", capsys, monkeypatch)
