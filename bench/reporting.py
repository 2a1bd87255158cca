"""A program's report about itself: the seconds of its work, and its memory before and at the peak."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import memory


@contextmanager
def reporting() -> Iterator[None]:
    """Measure the block, and print it as one line of JSON."""
    memory.forget_peak(os.getpid())
    idle, began = memory.resident(os.getpid()), time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "idle": idle, "peak": memory.peak(os.getpid())}))
