"""Waiting for a state, with a deadline; never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

State = TypeVar("State")


async def eventually(look: Callable[[], Awaitable[State | None]], *, within: float = 30.0) -> State:
    """What `look` returns as soon as it is true."""
    end = time.monotonic() + within
    while not (state := await look()):
        assert time.monotonic() < end, f"still not so after {within} s; last seen: {state!r}"
        await asyncio.sleep(0.03)
    return state
