"""Programs under test: one that runs to its end, or a worker that runs until it is stopped."""

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
from uuid import uuid4

from bench import memory
from bench.servers import FOLDER, PROJECT, WorkNotDone

POLL_INTERVAL = 0.02  # seconds
STOP_TIMEOUT = 15.0


@dataclass(frozen=True)
class Finished:
    """A finished program: its time, peak memory and output."""

    seconds: float
    peak: int
    output: str


def module(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a Python module."""
    return [sys.executable, "-m", name, *arguments]


def run(command: Sequence[str], environment: Mapping[str, str]) -> Finished:
    """Run a program to its end.

    Raises:
        WorkNotDone: when it fails.
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
        raise WorkNotDone(f"{' '.join(command)} failed: {errors[-1000:]}")
    return Finished(seconds, max(peaks), output)


def _watch(pid: int, peaks: list[int]) -> None:
    """Poll the peak until the process ends, as the kernel forgets it then."""
    while seen := memory.peak(pid):
        peaks.append(seen)
        time.sleep(POLL_INTERVAL)


@dataclass(frozen=True)
class Worker:
    """A program that runs in the background, with its descendants."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def until(self, state: Callable[[], bool], *, within: float) -> None:
        """Wait for a state that this worker brings about.

        Raises:
            WorkNotDone: when it ends before, or takes too long; with the end of its log.
        """
        end = time.monotonic() + within
        while not state():
            if self.process.poll() is not None or time.monotonic() > end:
                raise WorkNotDone(f"not done within {within:g} s: {self.log.read_text()[-1000:]}")
            time.sleep(POLL_INTERVAL)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop its processes (SIGSTOP) while its work is prepared."""
        os.killpg(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self.pid, signal.SIGCONT)


@contextmanager
def working(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Worker]:
    """Start a program; stop it with its descendants at the end."""
    log = FOLDER / f"worker-{uuid4().hex[:12]}.log"
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
        process.wait(STOP_TIMEOUT)
    with suppress(ProcessLookupError):  # it and all its children have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
