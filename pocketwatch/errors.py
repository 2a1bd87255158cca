"""Errors that say what is wrong, and what becomes of the message in hand.

PocketwatchError              a user's or operator's mistake, or a server's: one clear line, no traceback
├── SettingsError             a setting is missing or wrong
├── ScheduleError             an entry of the schedule is wrong
├── ServerUnreachable         a server does not answer, or refuses us
├── TopologyMismatch          a queue exists with other arguments than ours
├── NotPermitted              the broker's user lacks a right
├── StackError                the servers of this machine cannot be started
├── PublishFailed             the broker did not confirm a message in time
│   └── Unroutable            no queue is bound for it
├── InvalidMessage               a message that its schema or its headers refuse: dead letter, logged as `rejected`
├── Reject                    raised by a handler: dead letter now, trying again cannot help
└── RetryLater                raised by a handler: again after a while, not counted as an attempt

Anything else that a handler raises is an outage or a bug: retried with growing waits, then a dead letter.
"""

from datetime import timedelta


class PocketwatchError(Exception):
    """Something that a person can put right; its text says what was wrong and what would be right."""


class SettingsError(PocketwatchError):
    """A setting is missing or has a value that cannot be used."""


class ScheduleError(PocketwatchError):
    """An entry of the schedule names what does not exist, or says what cannot be."""


class ServerUnreachable(PocketwatchError):
    """A server does not answer in time, or does not let us in."""


class TopologyMismatch(PocketwatchError):
    """Exchanges or queues exist on the broker with other arguments than the topology's."""


class NotPermitted(PocketwatchError):
    """The broker's user may not do what is needed."""


class StackError(PocketwatchError):
    """The servers of this machine cannot be started, found or stopped."""


class PublishFailed(PocketwatchError):
    """The broker did not confirm a message within the deadline."""


class Unroutable(PublishFailed):
    """The broker returned a message, because no queue is bound for its routing key."""


class InvalidMessage(PocketwatchError):
    """A message cannot be read: its body or headers are not what the schema says."""


class Reject(PocketwatchError):
    """Dead letter now: trying again cannot help."""


class RetryLater(PocketwatchError):
    """Again after a while; this does not count as an attempt.

    Args:
        reason: what must change first, for the log.
        after: the least time to wait; the broker's next longer wait is taken (see `worker.retry_policy.DELAYS`).
    """

    def __init__(self, reason: str, *, after: timedelta) -> None:
        super().__init__(reason)
        self.after = after
