"""The mail catcher's side of the letters: storing them."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pocketwatch.stack import letters

KEEP = 10_000  # letters; the oldest make room


class Mailbox:
    """The letters below one folder, which no other process stores.

    Args:
        folder: the stack's.
        keep: how many letters at most.
    """

    def __init__(self, folder: Path, *, keep: int = KEEP) -> None:
        self._folder = folder
        self._keep = keep
        self._unfinished = folder / letters.HOME / "letter.new"
        self._unfinished.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._unfinished.unlink(missing_ok=True)
        there = letters.numbers(folder)
        self._last = there[-1] if there else 0
        for number in there[:-keep]:
            letters.path_of(folder, number).unlink(missing_ok=True)

    def store(self, sender: str, recipients: Iterable[str], letter: bytes) -> int:
        """Keep a letter, whole or not at all, and return its number. It blocks for as long as a small write takes.

        Raises:
            OSError: when it cannot be written.
        """
        number = self._last + 1
        with suppress(FileNotFoundError):
            # Used again, not deleted: some file systems make new files slowly while they remember many deleted ones.
            letters.path_of(self._folder, number - self._keep).replace(self._unfinished)
        with self._unfinished.open("wb") as file:
            file.write(letters.envelope(sender, recipients))
            file.write(letter)
        self._unfinished.replace(letters.path_of(self._folder, number))
        self._last = number
        return number
