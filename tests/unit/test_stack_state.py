"""What a folder remembers of its servers."""

import dataclasses
import os
from pathlib import Path

import pytest

from pocketwatch.errors import StackError
from pocketwatch.stack import state as state_module
from pocketwatch.stack.processes import Process, started
from pocketwatch.stack.state import PROTECTED, Identity, State, forget

OURSELVES = Process(os.getpid(), started(os.getpid()) or 0)


@pytest.fixture
def state(tmp_path: Path) -> State:
    state = State.read(tmp_path)
    state.ports["redis"] = 17_000
    state.processes["redis"] = OURSELVES
    state.write()
    return state


def test_a_state_is_read_as_it_was_written(state: State, tmp_path: Path) -> None:
    assert State.read(tmp_path) == state
    assert state.processes["redis"].alive


def test_a_process_with_another_start_time_is_not_ours() -> None:
    assert not dataclasses.replace(OURSELVES, started=OURSELVES.started + 1).alive


def test_after_the_machine_has_started_anew_no_process_is_ours_but_the_ports_are(state: State, tmp_path: Path) -> None:
    state.boot = "another one"
    state.write()

    later = State.read(tmp_path)

    assert (later.processes, later.ports) == ({}, {"redis": 17_000})


def test_a_system_that_counts_no_starts_has_a_state_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "BOOT_ID", tmp_path / "as on macOS, where Docker may run")
    state = State.read(tmp_path)
    state.ports["redis"] = 17_000
    state.write()

    assert State.read(tmp_path) == state


def test_the_copy_of_a_folder_has_no_servers(state: State, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "state.json").write_text((tmp_path / "state.json").read_text())

    assert State.read(copy).processes == {}
    assert state.processes


@pytest.mark.parametrize("text", ["", "{", "[]", '{"processes": 1}', '{"unknown": {}}'])
def test_a_damaged_state_counts_as_lost(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)

    assert State.read(tmp_path).processes == {}


def test_a_server_is_unwanted_when_its_last_holder_has_gone(state: State) -> None:
    state.hold(["redis", "postgres"], holder="a")
    state.hold(["redis"], holder="b")

    assert state.release("a") == ["postgres"]
    assert state.release("a") == []
    assert state.release("b") == ["redis"]


def test_passwords_are_new_for_each_folder_and_server_and_need_no_quotes(tmp_path: Path) -> None:
    one, other = Identity.new(tmp_path, compose=None), Identity.new(tmp_path, compose=None)

    passwords = [*one.passwords.values(), *other.passwords.values()]

    assert len(set(passwords)) == 2 * len(PROTECTED)
    assert all(password.isalnum() for password in passwords)
    assert one.passwords["redis"] not in repr(one)


def test_an_identity_is_kept_in_a_private_file(tmp_path: Path) -> None:
    identity = Identity.new(tmp_path, compose=None)

    identity.write(tmp_path)

    assert Identity.read(tmp_path) == identity
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600


def test_data_without_an_identity_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    assert Identity.read(tmp_path) is None
    (tmp_path / "redis").mkdir()

    with pytest.raises(StackError, match=r"put it back.*--wipe"):
        Identity.read(tmp_path)


def test_only_what_is_ours_is_forgotten(state: State, tmp_path: Path) -> None:
    for name in ("redis.log", "letters.log", "notes.txt"):
        (tmp_path / name).touch()

    forget(tmp_path)

    assert state.folder == str(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters.log", "notes.txt"]
