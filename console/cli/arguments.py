"""The jobs that can be triggered, and their arguments, from the messages' schemas."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from schemas.catalogue import TICK_TYPES
from schemas.message import Message
from schemas.types import LARGEST_INT

ARGUMENTS = ("argument", "accepts", "default", "meaning")


def jobs() -> list[tuple[str, str, str]]:
    """Return each job with the names of its arguments and what it does."""
    ticks = sorted(TICK_TYPES, key=lambda tick: tick.routing_key)
    return [(tick.routing_key, " ".join(tick.model_fields), summary(tick)) for tick in ticks]


def summary(schema: type[Message]) -> str:
    return " ".join((schema.__doc__ or "").split("\n\n")[0].split())


def arguments(schema: type[Message]) -> Iterator[tuple[str, str, str, str]]:
    """Yield the name of each argument, the values that it accepts, its default and its meaning."""
    document = schema.model_json_schema()
    required = document.get("required", [])
    for name, described in document.get("properties", {}).items():
        default = "required" if name in required else json.dumps(described.get("default"), ensure_ascii=False)
        options = list(_options(described, document.get("$defs", {})))
        parts = (described, *described.get("anyOf", ()))
        meaning = next((each["description"] for each in parts if "description" in each), "")
        yield name, ", or ".join(dict.fromkeys(map(_accepted, options))), default, meaning


def _options(described: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in described:
        described = definitions[described["$ref"].rpartition("/")[2]]
    if "anyOf" in described:
        for each in described["anyOf"]:
            yield from _options(each, definitions)
    else:
        yield described


def _accepted(option: Mapping[str, Any]) -> str:
    if "enum" in option:
        return ", ".join(map(str, option["enum"]))
    if "const" in option:
        return str(option["const"])
    accepted = ACCEPTED.get(option.get("type", ""))
    return "see docs/jobs.md" if accepted is None else accepted(option)


def _integer(option: Mapping[str, Any]) -> str:
    low, high = option.get("minimum"), option.get("maximum", LARGEST_INT)
    return f"{low} to {high}" if high < LARGEST_INT else f"{low} or greater"


def _number(option: Mapping[str, Any]) -> str:
    return f"above {option.get('exclusiveMinimum', 0)}, up to {option.get('maximum')}"


def _list(option: Mapping[str, Any]) -> str:
    values = option.get("items", {}).get("enum")
    return f"list of {', '.join(values)}" if values else 'list, such as ["a","b"]'


ACCEPTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "integer": _integer,
    "number": _number,
    "boolean": lambda _: "true, false",
    "array": _list,
    "string": lambda option: str(option.get("format", "text")),
    "null": lambda _: "null",
    "object": lambda _: "object",
}
