"""What is old hangs on "now"; where two clocks disagree, nobody knows what is old."""

from datetime import timedelta

from pocketwatch.clock import utc_now
from pocketwatch.errors import GiveUp
from pocketwatch.worker.context import Work

MAY_DIFFER = timedelta(hours=1)


def check_clocks(work: Work) -> None:
    """Refuse to change anything when the database's clock and this machine's are more than an hour apart.

    Raises:
        GiveUp: naming both.
    """
    here = utc_now()
    if abs(here - work.now) > MAY_DIFFER:
        raise GiveUp(
            f"the database says it is {work.now:%Y-%m-%d %H:%M} UTC, this machine says {here:%Y-%m-%d %H:%M} UTC; "
            "nothing was changed, set the clocks"
        )
