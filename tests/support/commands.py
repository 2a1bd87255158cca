"""The commands of the command line."""

from collections.abc import Iterator
from typing import Any

from console.cli import main


def commands() -> dict[str, Any]:
    """Return every command and every group of commands, by its words."""
    return dict(pair for name in main.COMMANDS for pair in _with_children(name, main.load(name)))


def leaves() -> list[str]:
    """Return the commands that do something."""
    return [name for name, command in commands().items() if not getattr(command, "commands", {})]


def _with_children(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for child, each in getattr(command, "commands", {}).items():
        yield from _with_children(f"{name} {child}", each)
