"""Tables on the terminal."""

import json

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
        ("\x1b[2Jgone\x07\u202e", r"\x1b[2Jgone\x07\u202e"),
        ("a\x9b31mb", r"a\x9b31mb"),
        ("caf\udce9.jpg", r"caf\xe9.jpg"),
        (":smile:", ":smile:"),
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


@pytest.mark.parametrize("text", ["[/red]x", "[link=http://evil]y[/link]", "[bold]", ":smile:", "job[main]"])
def test_texts_and_titles_are_not_markup(text: str, capsys: pytest.CaptureFixture[str]):
    terminal.say(f"{text} is shown")
    terminal.print_table(text, ["a column that is as wide as the title"], [])

    first, second, *_ = capsys.readouterr().out.splitlines()
    assert (first, second.strip()) == (f"{text} is shown", text)


def test_said_text_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]):
    terminal.say("\x1b]0;owned\x07\x1b[2J<html>")

    assert capsys.readouterr().out == r"\x1b]0;owned\x07\x1b[2J<html>" + "\n"


def test_json_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]):
    value = {"text": "\x1b[31m \x9b31m \u202e \ud800 Таврія 😀"}

    terminal.print_json(value)

    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert not {"\x1b", "\x9b", "\u202e", "\ud800"} & set(printed)
    assert "Таврія 😀" in printed
