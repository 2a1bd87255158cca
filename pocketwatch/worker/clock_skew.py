"""Refuse destructive jobs when two clocks disagree: what is old by one may be young by the other."""

from datetime import datetime, timedelta

from pocketwatch.clock import utc_now
from pocketwatch.errors import Reject

MAX_SKEW = timedelta(hours=1)


def check(now: datetime, other: datetime | None = None, *, of: str = "this machine") -> None:
    """Compare the database's time with that of this machine, or of another server.

    Raises:
        Reject: when they are more than an hour apart.
    """
    there = other or utc_now()
    if abs(there - now) > MAX_SKEW:
        raise Reject(
            f"the database says it is {now:%Y-%m-%d %H:%M} UTC, {of} says {there:%Y-%m-%d %H:%M} UTC; "
            "nothing was changed, set the clocks"
        )
