"""Describe what is wrong with a message: each field with its value and what would be accepted.

A refused value may be as large as the message: nothing is copied or compared but the part of it that is shown.
"""

import difflib
import json
import reprlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

LONGEST_VALUE = 60  # characters of a refused value that are shown
LONGEST_REASON = 500
MOST_PROBLEMS = 5


class _Excerpt(reprlib.Repr):
    """Represents the beginning of a value, in time and memory that do not depend on its size."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = 10
        self.maxstring = self.maxother = self.maxlong = 10 * LONGEST_VALUE

    def repr_str(self, x: str, level: int) -> str:  # noqa: ARG002  the signature of `reprlib`
        return repr(x[: LONGEST_VALUE + 1])

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """Keep the order, and do not sort the keys."""
        if level <= 0 and x:
            return "{…}"
        shown = [f"{self.repr1(key, level - 1)}: {self.repr1(x[key], level - 1)}" for key in islice(x, self.maxdict)]
        return f"{{{', '.join([*shown, '…'] if len(x) > len(shown) else shown)}}}"


_EXCERPT = _Excerpt()


def describe(error: ValidationError, schema: type[BaseModel]) -> str:
    """Return one line such as `retention_days is 9999: must be less than or equal to 3650`."""
    count = error.error_count()
    more = f"; and {count - MOST_PROBLEMS} more" if count > MOST_PROBLEMS else ""
    return "; ".join(text for _, text in islice(_problems(error, schema), MOST_PROBLEMS)) + more


def by_field(error: ValidationError, schema: type[BaseModel]) -> dict[str, str]:
    """Return the first problem of each field; the empty name is that of the whole body."""
    found: dict[str, str] = {}
    for name, text in _problems(error, schema):
        found.setdefault(name, text)
    return found


def shown(value: Any) -> str:
    """Return the beginning of a value, in one line of printable text."""
    text = f'"{value[: LONGEST_VALUE + 1]}"' if isinstance(value, str) else _EXCERPT.repr(value)
    return _cut(text, LONGEST_VALUE)


def _problems(error: ValidationError, schema: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield the field of the body, and what is wrong with it or within it."""
    for problem in error.errors(include_url=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        name = ".".join(_cut(str(part), LONGEST_VALUE) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            yield field, f'unknown field "{name}"{_hint(name, schema)}'
        elif problem["type"] == "json_invalid":
            yield field, f"the body is not valid JSON: {problem['ctx']['error']}"
        elif problem["type"] == "missing":
            yield field, f'field "{name}" is missing'
        else:
            yield field, f"{name or 'the body'} is {shown(problem['input'])}: {_reason(problem)}"


def _hint(name: str, schema: type[BaseModel]) -> str:
    known = list(schema.model_fields)
    if near := difflib.get_close_matches(name, known, n=1):
        return f'; did you mean "{near[0]}"?'
    return f"; known: {', '.join(known)}" if known else "; it has no fields"


def _reason(problem: ErrorDetails) -> str:
    context: Mapping[str, Any] = problem.get("ctx", {})
    if problem["type"] in {"bool_type", "bool_parsing"}:
        return "must be true or false"
    if problem["type"] in {"list_type", "tuple_type"}:
        return f"must be a JSON list, such as {_listed(problem['input'])}"
    message = problem["msg"]
    if (tag := context.get("tag")) is not None:  # quoted as it is, however long
        message = message.replace(tag, _cut(tag, LONGEST_VALUE))
    return _cut(message.removeprefix("Value error, ").replace("Input should be", "must be"), LONGEST_REASON)


def _listed(value: Any) -> str:
    """Return what was perhaps meant, as a list: of a short text, the parts between its commas."""
    parts = value.split(",") if isinstance(value, str) and 0 < len(value) <= LONGEST_VALUE else ["a", "b"]
    return json.dumps([part.strip() for part in parts], ensure_ascii=False, separators=(",", ":"))


def _cut(text: str, length: int) -> str:
    head = text[: length + 1]
    printable = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in head)
    return printable if len(printable) <= length else f"{printable[:length]}…"
