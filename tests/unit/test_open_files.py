"""Which files somebody holds open."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.cleanup.files import open_files
from consumers.cleanup.files.open_files import (
    Held,
    OpenFiles,
    is_leased_elsewhere,
    look_around,
)

BLIND = Held(frozenset(), complete=False, seen_at=float("inf"))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log.1"
    path.write_text("x")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def holder(log: Path) -> Iterator[None]:
    """Another process that writes to the log."""
    code = "import sys; file = open(sys.argv[1], 'a'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


def test_a_file_that_another_process_writes_to_is_held(log: Path, folder: int, holder: None):
    assert OpenFiles().is_held(folder, log.name, log.stat())


def test_a_file_that_nobody_has_open_is_not_held(log: Path, folder: int):
    assert OpenFiles().is_held(folder, log.name, log.stat()) is False


def test_a_file_is_held_under_whatever_name_it_has(log: Path, folder: int, holder: None):
    log.rename(log.with_name("app.log.2"))

    status = log.with_name("app.log.2").stat()
    assert (status.st_dev, status.st_ino) in look_around().files
    assert OpenFiles().is_held(folder, "app.log.2", status)


def test_the_kernel_knows_of_a_process_that_cannot_be_looked_into(
    log: Path, folder: int, holder: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(open_files, "look_around", lambda: BLIND)

    assert OpenFiles().is_held(folder, log.name, log.stat()) is True


def test_the_kernel_knows_that_nobody_holds_our_file(log: Path, folder: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(open_files, "look_around", lambda: BLIND)

    assert OpenFiles().is_held(folder, log.name, log.stat()) is False


def test_it_is_unknown_when_neither_may_be_asked(log: Path, folder: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(open_files, "look_around", lambda: BLIND)
    status = log.stat()
    log.rename(log.with_name("app.log.2"))
    log.write_text("another file, about which nobody asked")

    assert OpenFiles().is_held(folder, log.name, status) is None


def test_what_was_seen_is_looked_at_again_after_a_while(log: Path, folder: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(open_files, "is_leased_elsewhere", lambda *_: None)
    known = OpenFiles()
    with log.open():
        assert not known.is_held(folder, log.name, log.stat())
        monkeypatch.setattr(open_files, "FRESH_FOR", 0)
        assert known.is_held(folder, log.name, log.stat())


def test_who_opens_a_file_while_the_kernel_is_asked_does_not_kill_us(
    log: Path, folder: int, monkeypatch: pytest.MonkeyPatch
):
    control, refused, killed = fcntl.fcntl, [], []

    def opened_by_another(descriptor: int, command: int, argument: int) -> int:
        result = control(descriptor, command, argument)
        if command == fcntl.F_SETLEASE:
            with pytest.raises(BlockingIOError):  # the kernel holds it up, and signals us
                os.open(log, os.O_RDONLY | os.O_NONBLOCK)
            refused.append(True)
        return result

    monkeypatch.setattr(fcntl, "fcntl", opened_by_another)
    before = signal.signal(signal.SIGIO, lambda *_: killed.append(True))  # by default, it ends a process
    try:
        assert is_leased_elsewhere(folder, log.name, log.stat()) is False
    finally:
        signal.signal(signal.SIGIO, before)

    assert (refused, killed) == ([True], [])
    log.open().close()
