"""A private Redis."""

import signal

from pocketwatch.stack.files import write_private
from pocketwatch.stack.probes import redis_is_ready
from pocketwatch.stack.processes import Launch
from pocketwatch.stack.server import Place, needed

# A file, as a password among the arguments would show in `ps`. The data folder is the working folder.
SETTINGS = """\
bind 127.0.0.1
port {port}
requirepass {password}
appendonly yes
save ""
"""


class Redis:
    """Keeps its data in an append-only file, so that they survive a kill."""

    name = part_of = "redis"
    ports = ("redis",)
    stop_signal = signal.SIGTERM

    def __init__(self, place: Place) -> None:
        self._place = place

    def prepare(self) -> Launch:
        """Write the configuration."""
        home = self._place.home(self.name)
        settings = SETTINGS.format(port=self._place.ports["redis"], password=self._place.passwords["redis"])
        write_private(home / "redis.conf", settings)
        program = needed(self._place.programs.redis(), self.name)
        return Launch([str(program), "redis.conf"], cwd=home)

    def is_ready(self) -> bool:
        """It takes our password, and has loaded its data."""
        return redis_is_ready(self._place.ports, self._place.passwords[self.name])

    def after_start(self) -> None:
        """Nothing."""

    def before_stop(self) -> None:
        """Nothing: SIGTERM writes everything out."""
