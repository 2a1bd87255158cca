"""What a sweep has seen and done."""

import threading
from dataclasses import dataclass, field

MAX_EXAMPLES = 5  # of errors


@dataclass
class SweepCounters:
    """Filled by several threads while a sweep goes on; `rule` holds the counters of the sweep's rule."""

    files_seen: int = 0
    files_deleted: int = 0
    bytes_freed: int = 0
    directories_removed: int = 0
    errors: int = 0
    rule: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    stopped: bool = False  # before the end
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def statistics(self) -> dict[str, int]:
        names = ("files_seen", "files_deleted", "bytes_freed", "directories_removed", "errors")
        return {name: getattr(self, name) for name in names} | self.rule

    def add_error(self, path: str, error: OSError) -> None:
        with self.lock:
            self.errors += 1
            if len(self.examples) < MAX_EXAMPLES:
                self.examples.append(f"{path}: {error.strerror or error}")
