"""What is old hangs on "now"; where two clocks disagree, nobody knows what is old."""

from datetime import timedelta

from pocketwatch.clock import utc_now
from pocketwatch.errors import Reject
from pocketwatch.worker.context import EventContext

MAY_DIFFER = timedelta(hours=1)


def check_clock_skew(event: EventContext) -> None:
    """Refuse to change anything when the database's clock and this machine's are more than an hour apart.

    Raises:
        Reject: naming both.
    """
    here = utc_now()
    if abs(here - event.now) > MAY_DIFFER:
        raise Reject(
            f"the database says it is {event.now:%Y-%m-%d %H:%M} UTC, this machine says {here:%Y-%m-%d %H:%M} UTC; "
            "nothing was changed, set the clocks"
        )
