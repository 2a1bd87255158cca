"""A clock that can be set: processes that are started with it see another time than this machine's."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pocketwatch.stack.native.programs import Programs


class Clock:
    """Only the time of day is another; durations are measured as always."""

    def __init__(self, folder: Path) -> None:
        programs = Programs()
        programs.provide(["faketime"], log=folder / "install.log", echo=lambda _: None)
        self._library, self._file = programs.faketime(), folder / "clock"
        self.set()

    @property
    def environment(self) -> dict[str, str]:
        """What processes that go by this clock are started with."""
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",  # so that every process notices at once that it was set
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def set_to(self, moment: datetime) -> None:
        """Set the clock to a time, from which it goes on."""
        self.set(moment - datetime.now(UTC))

    def set(self, ahead: timedelta = timedelta(0)) -> None:
        """Set the clock so far ahead of this machine's."""
        self.ahead = ahead
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(f"{ahead.total_seconds():+f}s\n")
        unfinished.chmod(0o644)
        unfinished.rename(self._file)
