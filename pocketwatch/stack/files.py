"""Files of a stack: private ones, written whole or not at all, and logs."""

import os
import shutil
from pathlib import Path

LOG_LIMIT = 10_000_000  # bytes; a longer log is set aside when its server starts again
TAIL = 12  # lines of a log that an error shows
WIDTH = 240  # characters of each; RabbitMQ can say a whole screen in one


def write_private(path: Path, text: str) -> None:
    """Write a file that only we can read; whole or not at all."""
    new = path.with_name(path.name + ".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def set_aside_long_log(log: Path) -> None:
    """Keep one older log, so that a server that lives for months does not fill the disk."""
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.replace(log.with_suffix(".old.log"))


def size(path: Path) -> int:
    """Bytes in a file; none when there is no such file."""
    return path.stat().st_size if path.exists() else 0


def last_lines(log: Path, *, since: int = 0) -> str:
    """The end of what was written to a log after its first `since` bytes, indented."""
    if not log.exists():
        return "  (nothing)"
    with log.open("rb") as file:
        file.seek(since if since <= size(log) else 0)
        text = file.read().decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line[:WIDTH]}" for line in lines[-TAIL:]) or "  (nothing)"


def remove(path: Path) -> None:
    """Remove a file or a whole folder, when it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
