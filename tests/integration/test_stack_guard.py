"""Servers for as long as one process uses them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketwatch.stack.stack import Stack
from tests.support.machine import eventually, is_alive, processes_of
from tests.support.stacks import pids, quiet_stack, small_stack

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def small() -> Iterator[Stack]:
    with small_stack() as stack:
        yield stack


GUARDED = """
import sys, time
from pathlib import Path
from pocketwatch.stack.stack import Stack
with Stack(Path(sys.argv[1]), given={"RABBITMQ_URL": sys.argv[2]}, durable=False).guarded() as environment:
    print("ready", flush=True)
    sys.stdin.read()
"""


def guarded_use(stack: Stack) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", GUARDED, stack.folder, "amqp://127.0.0.1:1/"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_when_a_user_is_killed_its_guard_stops_the_servers(small: Stack) -> None:
    with guarded_use(small) as use:
        assert use.stdout is not None
        assert use.stdout.readline() == "ready\n"
        running = pids(small, "postgres", "redis").values()
        use.kill()

    assert eventually(lambda: not any(is_alive(process) for process in running))
    assert eventually(lambda: not (small.folder / "env").exists())


@pytest.mark.parametrize("moment", [0.2, 0.4, 0.6])
def test_when_a_user_is_killed_during_the_start_nothing_stays(small: Stack, moment: float) -> None:
    with guarded_use(small) as use:
        time.sleep(moment)  # any moment will do
        use.kill()

    assert eventually(lambda: processes_of(small.folder) == [])


def test_when_the_guard_is_killed_the_user_stops_the_servers_itself(small: Stack) -> None:
    with small.guarded():
        running = pids(small, "postgres", "redis").values()
        guard = guard_of(small)
        os.kill(guard, signal.SIGKILL)

    assert not any(is_alive(process) for process in [*running, guard])


def test_a_use_that_ends_leaves_what_somebody_else_wants(small: Stack) -> None:
    with small.guarded():
        quiet_stack(small.folder, given={"RABBITMQ_URL": "amqp://127.0.0.1:1/"}).up()

    assert pids(small, "postgres", "redis")


def guard_of(stack: Stack) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.joinpath("cmdline").exists():
            words = entry.joinpath("cmdline").read_bytes().split(b"\0")
            if b"pocketwatch.stack.guard" in words and os.fsencode(stack.folder) in words:
                return int(entry.name)
    raise AssertionError("no guard")
