"""Servers that run for as long as one process uses them."""

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


USER = """
import sys, time
from pathlib import Path
from pocketwatch.stack.stack import Stack
with Stack(Path(sys.argv[1]), external={"RABBITMQ_URL": sys.argv[2]}, durable=False).lease() as environment:
    print("ready", flush=True)
    sys.stdin.read()
"""


def start_user(stack: Stack) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", USER, stack.folder, "amqp://127.0.0.1:1/"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_watchdog_stops_the_servers_when_their_user_is_killed(small: Stack) -> None:
    with start_user(small) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n"
        running = pids(small, "postgres", "redis").values()
        user.kill()

    assert eventually(lambda: not any(is_alive(process) for process in running))
    assert eventually(lambda: not (small.folder / "env").exists())


@pytest.mark.parametrize("moment", [0.2, 0.4, 0.6])
def test_nothing_is_left_when_the_user_is_killed_during_the_start(small: Stack, moment: float) -> None:
    with start_user(small) as user:
        time.sleep(moment)  # any moment will do
        user.kill()

    assert eventually(lambda: processes_of(small.folder) == [])


def test_servers_stop_when_the_watchdog_was_killed(small: Stack) -> None:
    with small.lease():
        running = pids(small, "postgres", "redis").values()
        watchdog = watchdog_of(small)
        os.kill(watchdog, signal.SIGKILL)

    assert not any(is_alive(process) for process in [*running, watchdog])


def test_end_of_a_lease_leaves_servers_of_another_lease(small: Stack) -> None:
    with small.lease():
        quiet_stack(small.folder, external={"RABBITMQ_URL": "amqp://127.0.0.1:1/"}).up()

    assert pids(small, "postgres", "redis")


def watchdog_of(stack: Stack) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.joinpath("cmdline").exists():
            words = entry.joinpath("cmdline").read_bytes().split(b"\0")
            if b"pocketwatch.stack.watchdog" in words and os.fsencode(stack.folder) in words:
                return int(entry.name)
    raise AssertionError("no watchdog")
