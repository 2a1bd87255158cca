"""Errors that the user can fix, and what a handler raises to decide about its message.

Anything else that a handler raises is an outage or a bug: retried with growing delays, then a dead letter.
"""

from datetime import timedelta


class PocketwatchError(Exception):
    """An error that the user can fix; the text says what is wrong and what to do."""


class SettingsError(PocketwatchError):
    """A setting is missing or has a value that cannot be used."""


class ScheduleError(PocketwatchError):
    """An entry of the schedule is wrong, or has no job or queue."""


class ServerUnreachable(PocketwatchError):
    """A server does not answer in time, or refuses the login."""


class DatabaseUnreachable(PocketwatchError):
    """The database cannot be reached, at any time: retried without counting an attempt."""


class TopologyMismatch(PocketwatchError):
    """Exchanges or queues exist on the broker with other arguments than the topology's."""


class NotPermitted(PocketwatchError):
    """The broker's user lacks a right."""


class StackError(PocketwatchError):
    """The servers of this machine cannot be started, found or stopped."""


class PublishFailed(PocketwatchError):
    """The broker did not confirm a message."""


class NotConfirmed(PublishFailed):
    """The broker did not answer within the deadline."""


class Unroutable(PublishFailed):
    """The broker returned a message, because no queue is bound for its routing key."""


class InvalidMessage(PocketwatchError):
    """The body or the headers of a message are not what its schema says: dead letter, logged as `rejected`."""


class Reject(PocketwatchError):
    """Dead-letter the message at once; raised by handlers when retrying cannot help."""


class RetryLater(PocketwatchError):
    """Retry the message later without counting an attempt; raised by handlers.

    Args:
        reason: what must change first, for the log.
        after: the least time to wait; the next longer delay queue is used (`worker.retry_policy.DELAYS`).
    """

    def __init__(self, reason: str, *, after: timedelta) -> None:
        super().__init__(reason)
        self.after = after
