"""Tell the end of our own task from a call that a library has cancelled."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


def is_stray_cancellation(error: BaseException | None) -> bool:
    """Return whether a call was cancelled, and not the running task.

    aiormq cancels the calls that wait for an answer when it loses its connection.
    """
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and not (task is not None and task.cancelling())


@contextmanager
def as_connection_lost() -> Iterator[None]:
    """Raise ConnectionAbortedError for a stray cancellation, which would pass every `except Exception`."""
    try:
        yield
    except asyncio.CancelledError as error:
        if not is_stray_cancellation(error):
            raise
        raise ConnectionAbortedError("the connection was lost while waiting for an answer") from error
