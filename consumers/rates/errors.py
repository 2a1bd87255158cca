"""Errors of a bank, in a module of their own: the watchdog of each process knows the banks, and none needs HTTP."""

from pocketwatch.errors import PocketwatchError


class BankFailed(PocketwatchError):
    """A bank does not answer, or sends nothing usable; the run is retried."""


class TemporaryFailure(BankFailed):
    """This attempt failed; another one may succeed at once."""
