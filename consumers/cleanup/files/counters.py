"""What a sweep has seen and done."""

import threading
from dataclasses import dataclass, field

from consumers.cleanup.files.folder import readable

MAX_EXAMPLES = 5  # of errors


@dataclass
class SweepCounters:
    """Filled by several threads while a sweep goes on; `rule` holds the counters of the sweep's rule."""

    files_seen: int = 0
    files_deleted: int = 0
    bytes_freed: int = 0
    directories_removed: int = 0
    errors: int = 0
    mounts_skipped: int = 0
    rule: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    expected: int | None = None  # files that the survey before the deletion has seen
    limit: int | None = None  # files that may be deleted, after the survey
    stopped: bool = False  # before the end
    limit_reached: bool = False  # and stopped therefore
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def statistics(self) -> dict[str, int]:
        names = ("files_seen", "files_deleted", "bytes_freed", "directories_removed", "errors")
        mounts = {"mounts_skipped": self.mounts_skipped} if self.mounts_skipped else {}
        return {name: getattr(self, name) for name in names} | mounts | self.rule

    def add_mount(self) -> None:
        with self.lock:
            self.mounts_skipped += 1

    def add_error(self, path: str, error: OSError) -> None:
        with self.lock:
            self.errors += 1
            if len(self.examples) < MAX_EXAMPLES:
                self.examples.append(f"{readable(path)}: {readable(error.strerror or str(error))}")
