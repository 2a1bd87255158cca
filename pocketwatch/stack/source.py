"""Where servers come from that we may start and stop."""

from collections.abc import Iterable
from typing import Protocol


class Source(Protocol):
    """Private instances, or Docker."""

    def up(self, names: list[str]) -> None:
        """Bring these servers up, and wait until they work."""

    def stop(self, names: Iterable[str]) -> None:
        """Stop these servers; their data stay."""

    def wipe(self) -> None:
        """Stop all servers, in whatever way is quick, and delete their data."""

    def is_running(self, name: str) -> bool:
        """True when it runs, ready or not."""

    def is_ready(self, name: str) -> bool:
        """True when it does its work."""

    def pid(self, name: str) -> int | None:
        """Its process, when it is ours."""
