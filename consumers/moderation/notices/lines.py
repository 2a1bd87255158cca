"""Text in lines: without control characters, and of bounded length."""

import re
from collections.abc import Iterable, Iterator

MAX_LINE_LENGTH = 500
UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def one_line(text: str) -> str:
    """Replace line breaks and control characters with spaces."""
    return UNPRINTABLE.sub(" ", text).strip()


def wrap_list(heading: str, items: Iterable[str]) -> Iterator[str]:
    """Yield lines of at most `MAX_LINE_LENGTH` characters: the heading, then the items separated by commas."""
    line = heading
    for item in items:
        if len(line) + len(item) + 2 > MAX_LINE_LENGTH:
            yield line
            line = item
        else:
            line = f"{line} {item}" if line is heading else f"{line}, {item}"
    yield line
