"""The records by which a folder knows its servers."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from pocketwatch.errors import StackError
from pocketwatch.stack import state as state_module
from pocketwatch.stack.files import write_private
from pocketwatch.stack.lease import hold, is_held
from pocketwatch.stack.processes import Process, start_time
from pocketwatch.stack.servers import PROTECTED
from pocketwatch.stack.state import Identity, State, delete_state

OURSELVES = Process(os.getpid(), start_time(os.getpid()) or 0)


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


def test_recycled_pid_is_not_the_recorded_process() -> None:
    assert not dataclasses.replace(OURSELVES, start_time=OURSELVES.start_time + 1).alive


def test_reboot_clears_processes_and_keeps_ports(state: State, tmp_path: Path) -> None:
    state.boot_id = "another one"
    state.write()

    later = State.read(tmp_path)

    assert (later.processes, later.ports) == ({}, {"redis": 17_000})


def test_state_works_without_a_boot_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "BOOT_ID", tmp_path / "as on macOS, where Docker may run")
    state = State.read(tmp_path)
    state.ports["redis"] = 17_000
    state.write()

    assert State.read(tmp_path) == state


def test_copied_folder_has_no_servers(state: State, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "state.json").write_text((tmp_path / "state.json").read_text())

    assert State.read(copy).processes == {}
    assert state.processes


@pytest.mark.parametrize("text", ["", "{", "[]", '{"processes": 1}', '{"unknown": {}}'])
def test_damaged_state_counts_as_lost(text: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(text)

    assert State.read(tmp_path).processes == {}


def test_lease_is_held_until_its_last_user_ends(tmp_path: Path) -> None:
    with hold(tmp_path):
        with hold(tmp_path):
            assert is_held(tmp_path)
        assert is_held(tmp_path)

    assert not is_held(tmp_path)


def test_passwords_are_unique_and_need_no_quotes(tmp_path: Path) -> None:
    one, other = Identity.new(tmp_path, compose=None), Identity.new(tmp_path, compose=None)

    passwords = [*one.passwords.values(), *other.passwords.values()]

    assert len(set(passwords)) == 2 * len(PROTECTED)
    assert all(password.isalnum() for password in passwords)
    assert one.passwords["redis"] not in repr(one)


def test_identity_file_is_private(tmp_path: Path) -> None:
    identity = Identity.new(tmp_path, compose=None)

    identity.write(tmp_path)

    assert Identity.read(tmp_path) == identity
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600


def test_identity_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    identity = Identity.new(tmp_path, compose=None)

    earlier = dataclasses.asdict(identity) | {"source": "native"}
    del earlier["nodes"]
    (tmp_path / "identity.json").write_text(json.dumps(earlier))

    assert Identity.read(tmp_path) == identity


def test_data_without_identity_are_refused_with_a_remedy(tmp_path: Path) -> None:
    assert Identity.read(tmp_path) is None
    (tmp_path / "redis").mkdir()

    with pytest.raises(StackError, match=r"put it back.*--wipe"):
        Identity.read(tmp_path)


def test_deleting_state_leaves_other_files_alone(state: State, tmp_path: Path) -> None:
    for name in ("redis.log", "emails.log", "notes.txt"):
        (tmp_path / name).touch()

    delete_state(tmp_path)

    assert state.folder == str(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emails.log", "notes.txt"]


def test_private_file_does_not_take_the_mode_of_a_file_that_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / "env.new").write_text("half")
    (tmp_path / "env.new").chmod(0o666)

    write_private(tmp_path / "env", "secret")

    assert (tmp_path / "env").read_text() == "secret"
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600
