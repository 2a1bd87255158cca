"""Tracebacks for operators: the error, and the lines of our own packages on the way to it."""

import linecache
import traceback
from collections.abc import Iterator
from types import CodeType

from pocketwatch.text import printable, shorten

OWN_PACKAGES = ("consumers", "pocketwatch", "publishers", "schemas", "templates", "console")
MAX_LENGTH = 4_000  # characters
LONGEST_SUMMARY = 1_000  # characters of an error's own text
MAX_ERRORS = 5  # the error, those that caused it, and those that it groups
MAX_FRAMES = 20  # of one error: the last ones, which are nearest to it


def own_traceback(error: BaseException) -> str:
    """Return a traceback of at most 4,000 characters, with control characters escaped.

    The first line names the error, the next ones are our own frames, the innermost last; then come the errors that
    caused it. An error that has passed none of our frames shows its last one.
    """
    lines: list[str] = []
    for number, each in enumerate(_chain(error)):
        if number == MAX_ERRORS:
            break
        lines += [f"{'caused by ' if number else ''}{_summary(each)}", *_frames(each)]
    return printable(shorten("\n".join(lines), MAX_LENGTH))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, then those that it groups and those that caused it, each once."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
        cause = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
        waiting += () if cause is None else (cause,)


def _summary(error: BaseException) -> str:
    name = type(error).__qualname__
    text = " ".join(str(error).split())
    return shorten(f"{name}: {text}" if text else name, LONGEST_SUMMARY)


def _frames(error: BaseException) -> list[str]:
    found = [
        (frame.f_globals.get("__name__", ""), frame.f_code, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    own = [each for each in found if each[0].partition(".")[0] in OWN_PACKAGES]
    return [_line(*each) for each in own[-MAX_FRAMES:] or found[-1:]]


def _line(module: str, code: CodeType, line: int) -> str:
    source = linecache.getline(code.co_filename, line).strip()
    return f"  {module}:{line} {code.co_name}: {source}".rstrip(": ")
