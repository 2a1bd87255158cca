"""A private mail catcher: a program of our own, so that nothing has to be installed."""

import signal
import sys
from pathlib import Path

from pocketwatch.stack.probes import mail_is_ready
from pocketwatch.stack.processes import ENVIRONMENT, Launch
from pocketwatch.stack.server import Place

MODULE = "pocketwatch.stack.catcher"
PROJECT = Path(__file__).parents[2]  # so that the module is found, wherever the catcher stands


class MailCatcher:
    """Takes letters from this machine without a password: there is nothing to be had from it."""

    name = part_of = "mail"
    ports = ("mail",)
    stop_signal = signal.SIGTERM

    def __init__(self, place: Place) -> None:
        self._place = place

    def prepare(self) -> Launch:
        """It makes its files itself."""
        command = [sys.executable, "-m", MODULE, str(self._place.folder), str(self._place.ports["mail"])]
        environment = ENVIRONMENT | {"PYTHONPATH": str(PROJECT), "PYTHONSAFEPATH": "1"}
        return Launch(command, cwd=self._place.home(self.name), environment=environment)

    def is_ready(self) -> bool:
        """It speaks SMTP."""
        return mail_is_ready(self._place.ports)

    def after_start(self) -> None:
        """Nothing."""

    def before_stop(self) -> None:
        """Nothing: a letter that it has taken is in its file."""
