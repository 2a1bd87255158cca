"""Errors by what they mean to an operator, and by what happens to the message that is being handled.

PocketwatchError              something that a person can put right: one clear line, no traceback
├── SettingsError             a setting is missing or wrong
├── ScheduleError             an entry of the schedule is wrong
├── ServerUnreachable         a server does not answer, or refuses the login
├── TopologyMismatch          a queue exists with other arguments than the topology's
├── NotPermitted              the broker's user lacks a right
├── StackError                the servers of this machine cannot be started
├── PublishFailed             the broker did not confirm a message in time
│   └── Unroutable            no queue is bound for it
├── InvalidMessage            its schema or headers do not allow it: dead letter, logged as `rejected`
├── Reject                    raised by a handler: dead letter now, retrying cannot help
└── RetryLater                raised by a handler: retried after a while, not counted as an attempt

Anything else that a handler raises is an outage or a bug: retried with growing delays, then a dead letter.
"""

from datetime import timedelta


class PocketwatchError(Exception):
    """Something that a person can put right; the text says what is wrong and what to do."""


class SettingsError(PocketwatchError):
    """A setting is missing or has a value that cannot be used."""


class ScheduleError(PocketwatchError):
    """An entry of the schedule is wrong, or has no job or queue."""


class ServerUnreachable(PocketwatchError):
    """A server does not answer in time, or refuses the login."""


class TopologyMismatch(PocketwatchError):
    """Exchanges or queues exist on the broker with other arguments than the topology's."""


class NotPermitted(PocketwatchError):
    """The broker's user lacks a right."""


class StackError(PocketwatchError):
    """The servers of this machine cannot be started, found or stopped."""


class PublishFailed(PocketwatchError):
    """The broker did not confirm a message within the deadline."""


class Unroutable(PublishFailed):
    """The broker returned a message, because no queue is bound for its routing key."""


class InvalidMessage(PocketwatchError):
    """The body or the headers of a message are not what its schema says."""


class Reject(PocketwatchError):
    """Make the message a dead letter now: retrying cannot help."""


class RetryLater(PocketwatchError):
    """Retry the message after a while; this does not count as an attempt.

    Args:
        reason: what must change first, for the log.
        after: the least time to wait; the next longer delay queue is used (`worker.retry_policy.DELAYS`).
    """

    def __init__(self, reason: str, *, after: timedelta) -> None:
        super().__init__(reason)
        self.after = after
