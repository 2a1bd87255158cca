"""Tracebacks for operators: our own frames only, bounded, and harmless to a terminal."""

import json
from collections.abc import Callable

from pamqp import encode

from pocketwatch.clock import parse_duration
from pocketwatch.tracebacks import MAX_LENGTH, own_traceback
from tests.unit.test_logs import FORGED


def caught(act: Callable[[], object]) -> Exception:
    try:
        act()
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError("it has not failed")


def test_error_comes_first_then_our_own_frames():
    error = caught(lambda: parse_duration(20))  # type: ignore[arg-type]

    first, *frames = own_traceback(error).splitlines()

    assert first == "AttributeError: 'int' object has no attribute 'strip'"
    (frame,) = frames
    assert frame.startswith("  pocketwatch.clock:")
    assert frame.endswith(' parse_duration: match = re.fullmatch(r"(\\d{1,6})([smhd])", text.strip())')


def test_causes_follow_with_their_frames():
    def fail() -> None:
        try:
            parse_duration("soon")
        except ValueError as error:
            raise RuntimeError("cannot start") from error

    lines = own_traceback(caught(fail)).splitlines()

    assert lines[0] == "RuntimeError: cannot start"
    assert lines[2].startswith("caused by ValueError: not a duration")
    assert lines[3].startswith("  pocketwatch.clock:")


def test_errors_of_a_group_are_named():
    error = ExceptionGroup("two", [ValueError("first"), KeyError("second")])

    assert own_traceback(error).splitlines() == [
        "ExceptionGroup: two (2 sub-exceptions)",
        "caused by ValueError: first",
        "caused by KeyError: 'second'",
    ]


def test_error_outside_our_packages_shows_its_last_frame():
    first, frame = own_traceback(caught(lambda: json.loads("{"))).splitlines()

    assert first.startswith("JSONDecodeError: Expecting property name")
    assert frame.startswith("  json.decoder:")


def test_endless_errors_are_bounded():
    error = ValueError("x" * 100_000)
    error.__cause__ = RuntimeError("y" * 100_000)
    error.__cause__.__cause__ = error

    assert len(own_traceback(error)) <= MAX_LENGTH


def test_recursion_is_bounded():
    nested: object = 1
    for _ in range(100_000):
        nested = [nested]

    assert len(own_traceback(caught(lambda: encode.encode_table_value(nested)))) <= MAX_LENGTH  # type: ignore[arg-type]


def test_text_of_an_error_cannot_control_the_terminal():
    shown = own_traceback(ValueError(FORGED))

    assert all(line.isprintable() for line in shown.splitlines())
    assert shown.count("\n") == 0
