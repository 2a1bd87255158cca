"""Forms of messages: a field for each argument, made from the message's schema, and read back into a body."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from console.operations.bodies import InvalidBody
from pocketwatch.errors import InvalidMessage
from schemas.catalogue import CATALOGUE, schema_of
from schemas.message import Fact, Message, Tick
from schemas.validation_errors import by_field, describe

PREFIX = "argument."  # of the names of inputs, so that they equal no other name of a form
PRESENT = "present."  # marks a check box that was shown: browsers send nothing for an empty one
DRY_RUN = "dry_run"
LARGEST_BOUND = 2**53  # browsers compute with floating-point numbers
FALSE, TRUE = "false", "true"

Kind = Literal["check", "select", "number", "decimal", "text", "date", "list", "json"]
KINDS: Mapping[str, Kind] = {"boolean": "check", "integer": "number", "number": "decimal", "string": "text"}


@dataclass(frozen=True)
class FormField:
    """An input, and what is known about it."""

    name: str  # of the argument
    kind: Kind
    value: str = ""
    hint: str = ""
    error: str | None = None
    options: tuple[str, ...] = ()
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None

    @property
    def input(self) -> str:
        return PREFIX + self.name

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").capitalize()

    @property
    def is_checked(self) -> bool:
        return self.value == TRUE


@dataclass(frozen=True)
class Form:
    """The inputs for a body; those for what the schema does not know come last."""

    fields: tuple[FormField, ...]
    error: str | None = None  # of the whole body
    unknown: tuple[FormField, ...] = field(default=())

    @property
    def has_errors(self) -> bool:
        return self.error is not None or any(each.error for each in (*self.fields, *self.unknown))


def triggerable() -> tuple[list[type[Message]], list[type[Message]]]:
    """Return the messages that an operator may publish: of jobs, and of events; facts are what has happened."""
    messages = sorted(CATALOGUE.values(), key=lambda each: each.routing_key)
    jobs: list[type[Message]] = [each for each in messages if issubclass(each, Tick)]
    return jobs, [each for each in messages if not issubclass(each, Tick | Fact)]


def schema_for(routing_key: str) -> type[Message]:
    """Return the message of a job or event.

    Raises:
        InvalidMessage: when it does not exist, or states a fact.
    """
    try:
        schema = schema_of(routing_key)
    except LookupError as error:
        raise InvalidMessage(str(error)) from error
    if issubclass(schema, Fact):
        raise InvalidMessage(f'"{routing_key}" states what has happened; it starts no job, so it is not triggered')
    return schema


def has_dry_run(schema: type[BaseModel]) -> bool:
    return DRY_RUN in schema.model_fields


def of_values(
    schema: type[BaseModel], values: Mapping[str, Any] | None = None, errors: Mapping[str, str] | None = None
) -> Form:
    """Make the form for arguments as they are in a body; those that are not given have their defaults."""
    values, errors = values or {}, errors or {}
    described = schema.model_json_schema()
    properties: dict[str, Any] = described.get("properties", {})
    required = set(described.get("required", ()))
    fields = tuple(
        _field(name, each, described, values, error=errors.get(name), required=name in required)
        for name, each in properties.items()
    )
    unknown = tuple(
        FormField(name, "json", _json(value), "not in the schema; empty it to remove the field", errors.get(name))
        for name, value in values.items()
        if name not in properties
    )
    shown = {*properties, *values}
    whole = "; ".join(text for name, text in errors.items() if name not in shown) or None
    return Form(fields, whole, unknown)


def read(schema: type[BaseModel], sent: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments that a form holds, without those that are their defaults.

    A value that cannot be read is kept as text, which the schema refuses by name.
    """
    described = schema.model_json_schema()
    properties: dict[str, Any] = described.get("properties", {})
    names = dict.fromkeys(
        key.removeprefix(PREFIX).removeprefix(PRESENT) for key in sent if key.startswith((PREFIX, PRESENT))
    )
    arguments: dict[str, Any] = {}
    for name in names:
        each = properties.get(name)
        kind = "json" if each is None else _kind(_resolved(each, described))[0]
        text = sent.get(PREFIX + name, "")
        if kind == "check":
            arguments[name] = text == TRUE
        elif text.strip() or (kind == "text" and each is not None and name in described.get("required", ())):
            arguments[name] = _read(kind, text.strip() if kind != "text" else text)
    return {
        name: value
        for name, value in arguments.items()
        if name not in properties or "default" not in properties[name] or properties[name]["default"] != value
    }


def validate(schema: type[Message], arguments: Mapping[str, Any]) -> Message:
    """Build the message.

    Raises:
        InvalidBody: naming what is wrong, field by field.
    """
    try:
        return schema.model_validate_json(json.dumps(dict(arguments)))
    except ValidationError as error:
        text = f"arguments of {schema.routing_key}: {describe(error, schema)}"
        raise InvalidBody(text, by_field(error, schema)) from error


def _field(
    name: str,
    described: Mapping[str, Any],
    root: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    error: str | None,
    required: bool,
) -> FormField:
    resolved = _resolved(described, root)
    kind, options = _kind(resolved)
    default = described.get("default")
    value = values.get(name, default)
    minimum, maximum = resolved.get("minimum"), resolved.get("maximum")
    return FormField(
        name,
        kind,
        _shown(kind, value),
        "; ".join(_hints(described, resolved, kind)),
        error,
        options,
        required,
        minimum if minimum is not None and abs(minimum) < LARGEST_BOUND else None,
        maximum if maximum is not None and abs(maximum) < LARGEST_BOUND else None,
    )


def _resolved(described: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of a value that is given: of `null or number` that of the number."""
    options = [each for each in described.get("anyOf", ()) if each.get("type") != "null"]
    if len(options) == 1:
        return _resolved(options[0], root)
    if (reference := described.get("$ref")) is not None:
        found: Any = root
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return _resolved(found, root)
    return described


def _kind(resolved: Mapping[str, Any]) -> tuple[Kind, tuple[str, ...]]:
    options = resolved.get("enum") or ([resolved["const"]] if "const" in resolved else [])
    if options and all(isinstance(each, str) for each in options):
        return "select", tuple(options)
    items = resolved.get("items", {})
    if resolved.get("type") == "array" and items.get("type") == "string":
        return "list", tuple(items.get("enum", ()))
    if resolved.get("format") == "date":
        return "date", ()
    return KINDS.get(resolved.get("type", ""), "json"), ()


def _hints(described: Mapping[str, Any], resolved: Mapping[str, Any], kind: Kind) -> Iterator[str]:
    text = described.get("description") or resolved.get("description")
    if text:
        yield str(text)
    if kind == "list":
        options = resolved["items"].get("enum")
        yield "one per line" + (f": {', '.join(options)}" if options else "")
    if kind == "json":
        yield "JSON"
    yield from _bounds(resolved)
    if "default" in described and kind != "check":
        default = described["default"]
        yield "optional" if default is None else f"default: {_shown(kind, default).strip().replace(chr(10), ', ')}"


def _bounds(resolved: Mapping[str, Any]) -> Iterator[str]:
    least = resolved.get("minimum", resolved.get("exclusiveMinimum"))
    most = resolved.get("maximum", resolved.get("exclusiveMaximum"))
    above = "more than " if "exclusiveMinimum" in resolved else ""
    if most is not None and most < LARGEST_BOUND:
        yield f"{above}{least} to {most}" if least is not None else f"at most {most}"
    elif least is not None:
        yield f"{above or 'at least '}{least}"
    if "maxLength" in resolved:
        yield f"at most {resolved['maxLength']} characters"


def _shown(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    if kind == "check":
        return TRUE if value is True else FALSE
    if kind == "list" and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    return value if isinstance(value, str) and kind != "json" else _json(value)


def _read(kind: Kind, text: str) -> Any:
    if kind == "list":
        return [line.strip() for line in text.splitlines() if line.strip()]
    if kind in {"number", "decimal", "json"}:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
