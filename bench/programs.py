"""Programs under test: one that runs to its end, or one that works until it is stopped."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import memory
from bench.servers import FOLDER, PROJECT, Wrong

LOOK_EVERY = 0.02  # seconds
STOP_WITHIN = 15.0


@dataclass(frozen=True)
class Finished:
    """A program that has run to its end, with what it needed and printed."""

    seconds: float
    peak: int
    output: str


def module(name: str, *arguments: str) -> list[str]:
    """The command of one of our own modules, or of a peer's."""
    return [sys.executable, "-m", name, *arguments]


def run(command: Sequence[str], environment: Mapping[str, str]) -> Finished:
    """Run a program to its end.

    Raises:
        Wrong: when it fails.
    """
    began = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peaks = [0]
    watching = threading.Thread(target=_watch, args=(process.pid, peaks))
    watching.start()
    try:
        output, errors = process.communicate()
    finally:
        process.kill()
        watching.join()
    seconds = time.perf_counter() - began
    if process.returncode:
        raise Wrong(f"{' '.join(command)} failed: {errors[-1000:]}")
    return Finished(seconds, max(peaks), output)


def _watch(pid: int, peaks: list[int]) -> None:
    """The kernel forgets a peak with its process, so it is looked at until then."""
    while seen := memory.peak(pid):
        peaks.append(seen)
        time.sleep(LOOK_EVERY)


@dataclass(frozen=True)
class Worker:
    """A program that works in the background, with all its children."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def until(self, state: Callable[[], bool], *, within: float) -> None:
        """Wait for a state that this worker brings about.

        Raises:
            Wrong: when it ends before, or takes too long; with the end of its log.
        """
        end = time.monotonic() + within
        while not state():
            if self.process.poll() is not None or time.monotonic() > end:
                raise Wrong(f"not done within {within:g} s: {self.log.read_text()[-1000:]}")
            time.sleep(LOOK_EVERY)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep it from working, connected as it is, while its work is laid out."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)


@contextmanager
def working(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Worker]:
    """Start a program; at the end it is stopped with all its children."""
    log = FOLDER / "worker.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=environment, cwd=PROJECT, stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield Worker(process, log)
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WITHIN)
    with suppress(ProcessLookupError):  # it and all its children have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
