"""Private files, written atomically, and logs."""

import os
import shutil
from pathlib import Path

LOG_TAIL = 12  # lines of a log that an error shows
LOG_WIDTH = 240  # characters of each; RabbitMQ writes whole reports in one line


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, atomically."""
    new = path.with_name(path.name + ".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def rotate(log: Path) -> None:
    """Begin a new log, and keep one older log."""
    if log.exists():
        log.replace(log.with_suffix(".old.log"))


def tail(log: Path) -> str:
    """Return the last lines of a log, indented."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"  {line[:LOG_WIDTH]}" for line in lines[-LOG_TAIL:]) or "  (nothing)"
