"""Tell the end of our own task from a call that a library has cancelled."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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


CANCEL_AGAIN = 5.0  # seconds that a cancelled task has to end


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end, however it ends.

    It is cancelled again when it goes on: a library may lose a cancellation that meets an answer, as `asyncio.wait_for`
    does before Python 3.12.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_AGAIN)
    await asyncio.gather(task, return_exceptions=True)
