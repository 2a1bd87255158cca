"""Private files and logs, whatever the umask is."""

import os
import shutil
from pathlib import Path
from typing import IO, Any

LOG_TAIL = 12  # lines of a log that an error shows
LOG_WIDTH = 240  # characters of each; RabbitMQ writes whole reports in one line


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, atomically."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)  # of a killed process; O_CREAT would keep its mode
    with open_private(new, "x", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)


def open_private(path: Path, mode: str, **options: Any) -> IO[Any]:
    """Open a file like `open`; one that does not exist is created for its owner only."""
    return open(path, mode, opener=_create_private, **options)


def _create_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, which only their owner can change; its servers may run as another user."""
    if not path.exists():
        make_folder(path.parent)
        path.mkdir(mode=0o755, exist_ok=True)


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
