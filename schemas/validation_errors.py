"""Describe what is wrong with a message: each field with its value and what would be accepted."""

import difflib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

LONGEST_VALUE = 60  # characters of a refused value that are shown
MOST_PROBLEMS = 5


def describe(error: ValidationError, schema: type[BaseModel]) -> str:
    """Return one line such as `retention_days is 9999: must be less than or equal to 3650`."""
    problems = list(_problems(error, schema))
    more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
    return "; ".join(problems[:MOST_PROBLEMS]) + more


def _problems(error: ValidationError, schema: type[BaseModel]) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            yield f'unknown field "{name}"{_hint(name, schema)}'
        elif problem["type"] == "json_invalid":
            yield f"the body is not valid JSON: {problem['ctx']['error']}"
        elif problem["type"] == "missing":
            yield f'field "{name}" is missing'
        else:
            yield f"{name or 'the body'} is {_shown(problem)}: {_reason(problem['msg'])}"


def _hint(name: str, schema: type[BaseModel]) -> str:
    known = list(schema.model_fields)
    if near := difflib.get_close_matches(name, known, n=1):
        return f'; did you mean "{near[0]}"?'
    return f"; known are {', '.join(known)}" if known else "; it has no fields"


def _shown(problem: ErrorDetails) -> str:
    value: Any = problem["input"]
    text = f'"{value}"' if isinstance(value, str) else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "must be")
