"""Tables and texts on the terminal."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pocketwatch import terminal

MESSAGE_ID = "generate-quick-stats-every-15min@20261128T144500Z"
COLUMNS = ("started_at", "job", "status", "trigger", "attempt", "took", "statistics", "error", "message_id")
STATISTICS = {"files_seen": 400, "errors": 0, "files_deleted": 0, "directories_removed": 12, "bytes_freed": 0}
ERROR = "NBU: does not answer (ConnectError: All connection attempts failed); PRIVATBANK: does not answer"
ROW = (
    *(datetime(2026, 11, 28, 15, 4, 5, tzinfo=UTC), "cleanup.media", "succeeded", "schedule", 2, "0.16 s"),
    *(STATISTICS, ERROR, MESSAGE_ID),
)


@pytest.fixture
def width(monkeypatch: pytest.MonkeyPatch):
    """Set the width of the terminal."""

    def set_width(columns: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(terminal, "console", Console(width=columns, highlight=False, markup=False, emoji=False))

    return set_width


def shown(value: object, capsys: pytest.CaptureFixture[str]) -> str:
    terminal.print_table("figures", ["statistics"], [[value]])
    return capsys.readouterr().out.splitlines()[-1]


def words_of(*cells: object) -> list[str]:
    return [word for cell in cells for word in str(cell).split()]


def test_nested_statistics_are_flattened_without_zeros(capsys: pytest.CaptureFixture[str]):
    statistics = {
        "scanned": 0,
        "patterns": {"session:*": {"deleted": 0, "errors": []}, "user:*": {"deleted": 150, "errors": []}},
    }

    assert shown(statistics, capsys) == "patterns.user:*.deleted=150 scanned=0"


def test_statistics_are_in_the_order_of_their_names(capsys: pytest.CaptureFixture[str]):
    expected = "bytes_freed=0 directories_removed=12 errors=0 files_deleted=0 files_seen=400"

    assert shown(STATISTICS, capsys) == expected


def test_lists_are_shown_unchanged(capsys: pytest.CaptureFixture[str]):
    assert shown({"missing": ["day", "bold"]}, capsys) == "missing=['day', 'bold']"
    assert shown({"missing": "[bold]"}, capsys) == "missing=[bold]"


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
        ("two\nlines\tand a tab", r"two lines\tand a tab"),
    ],
)
def test_foreign_text_cannot_control_the_terminal_or_forge_a_row(
    text: str, expected: str, capsys: pytest.CaptureFixture[str]
):
    assert shown(text, capsys) == expected
    assert shown({"reply": text}, capsys) == f"reply={expected}"


def test_statuses_are_coloured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(terminal, "console", Console(force_terminal=True, color_system="standard", width=80))

    assert "\x1b[31mfailed" in shown("failed", capsys)


def test_no_color_is_honoured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        terminal, "console", Console(force_terminal=True, color_system="standard", width=80, no_color=True)
    )

    assert shown("failed", capsys) == "failed"


@pytest.mark.parametrize("text", ["[/red]x", "[link=http://evil]y[/link]", "[bold]", ":smile:", "job[main]"])
def test_texts_and_titles_are_not_markup(text: str, capsys: pytest.CaptureFixture[str]):
    terminal.say(f"{text} is shown")
    terminal.print_table(text, [text], [[text]])
    terminal.print_fields(text, [(text, text)])

    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{text} is shown", text, text, text, text, f"{text}  {text}"]


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


@pytest.mark.parametrize("columns", [300, 160, 120, 80, 60, 40])
def test_no_word_and_no_id_is_broken_at_any_width(columns: int, width, capsys: pytest.CaptureFixture[str]):
    width(columns)

    terminal.print_table("runs", COLUMNS, [ROW])

    text = capsys.readouterr().out
    pairs = [f"{name}={value}" for name, value in STATISTICS.items()]
    words = words_of("2026-11-28", *ROW[1:6], *pairs, ERROR, MESSAGE_ID)
    assert [word for word in words if word not in text.split()] == []
    assert "2026-11-28 15:04:05" in text
    assert all(len(line) <= columns or MESSAGE_ID in line for line in text.splitlines())
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_wide_table_has_one_line_per_row(width, capsys: pytest.CaptureFixture[str]):
    width(400)

    terminal.print_table("runs", COLUMNS, [ROW, ROW])

    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == "runs"
    assert header.split() == ["started_at", "(UTC)", *COLUMNS[1:]]
    assert len(rows) == 2


def test_columns_that_do_not_fit_are_below_their_row(width, capsys: pytest.CaptureFixture[str]):
    width(80)

    terminal.print_table("runs", COLUMNS, [ROW])

    assert capsys.readouterr().out.splitlines() == [
        "runs",
        "started_at (UTC)     job            status     trigger   attempt  took",
        "2026-11-28 15:04:05  cleanup.media  succeeded  schedule  2        0.16 s",
        "    statistics: bytes_freed=0 directories_removed=12 errors=0 files_deleted=0",
        "                files_seen=400",
        "    error: NBU: does not answer (ConnectError: All connection attempts failed);",
        "           PRIVATBANK: does not answer",
        f"    message_id: {MESSAGE_ID}",
    ]


def test_rows_are_blocks_where_not_even_two_columns_fit(width, capsys: pytest.CaptureFixture[str]):
    width(24)

    terminal.print_table("runs", COLUMNS[:3], [ROW[:3]])

    assert capsys.readouterr().out.splitlines() == [
        "runs",
        "",
        "started_at (UTC)  2026-11-28 15:04:05",
        "job               cleanup.media",
        "status            succeeded",
    ]


def test_piped_output_is_not_wrapped(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    long = "word " * 100 + "end"

    terminal.print_table("words", ["text", "id"], [[long, MESSAGE_ID]])

    assert capsys.readouterr().out.splitlines()[-1] == f"{long}  {MESSAGE_ID}"


def test_moments_are_in_utc_and_say_so_once(capsys: pytest.CaptureFixture[str]):
    kyiv = timezone(timedelta(hours=2))

    terminal.print_table("fires", ["next"], [[datetime(2026, 11, 28, 2, 30, tzinfo=kyiv)], [None]])

    assert capsys.readouterr().out.splitlines() == ["fires", "next (UTC)", "2026-11-28 00:30:00", ""]
    assert terminal.moment("2026-11-28T15:04:05+00:00") == datetime(2026, 11, 28, 15, 4, 5, tzinfo=UTC)
    assert terminal.moment("soon") == "soon"


def test_empty_table_says_what_to_do(capsys: pytest.CaptureFixture[str]):
    terminal.print_table("runs", COLUMNS, [], empty="no runs yet; start one: pocketwatch trigger --list")
    terminal.print_table("suppressed addresses", COLUMNS, [])

    assert capsys.readouterr().out == "no runs yet; start one: pocketwatch trigger --list\nno suppressed addresses\n"


def test_ascii_terminal_gets_ascii(monkeypatch: pytest.MonkeyPatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)

    terminal.print_table("Таврія", ["bars"], [[terminal.bars()], ["cut…"], ["1\u00a0025"]])
    terminal.say("a – b")

    stream.flush()
    lines = stream.buffer.getvalue().decode("ascii").splitlines()  # type: ignore[attr-defined]  # a BytesIO
    escaped = "Таврія".encode("ascii", "backslashreplace").decode()
    assert lines == [escaped, "bars", "_.-=+*%#", "cut...", "1 025", "a - b"]


def test_text_of_several_lines_is_one_field(capsys: pytest.CaptureFixture[str]):
    terminal.print_fields("run", [("status", "failed"), ("traceback", "one\nstatus  succeeded")])

    assert capsys.readouterr().out.splitlines() == [
        "run",
        "status     failed",
        "traceback  one",
        "           status  succeeded",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.16, "0.16 s"),
        (1, "1 s"),
        (42, "42 s"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (18_600, "5 h 10 min"),
        (525_600, "6 d 2 h"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, text: str):
    assert terminal.duration(seconds) == text


@given(text=st.text(), columns=st.integers(20, 120))
def test_any_text_stays_below_its_own_row(text: str, columns: int):
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setattr(terminal, "console", Console(file=printed, width=columns, highlight=False, markup=False))

        terminal.print_table("things", ["name", "text"], [["first", text], ["second", "x"]])

    assert all(character.isprintable() or character in "\n\u00a0\u202f" for character in printed.getvalue())
    assert [
        line
        for line in printed.getvalue().split("\n")
        if line.split()[:2] in (["second"], ["second", "x"], ["name", "second"])
    ] != []
