"""Ports of private servers."""

from pathlib import Path

import pytest

from pocketwatch.stack import ports
from pocketwatch.stack.ports import PLACES, is_free, reassign
from tests.support.machine import listener

FOLDER = Path("/somewhere/.pocketwatch")


def assigned(folder: Path = FOLDER) -> dict[str, int]:
    found: dict[str, int] = {}
    reassign(found, PLACES, folder=folder)
    return found


def test_every_server_has_a_port_of_its_own_below_those_of_clients() -> None:
    found = assigned()

    lowest_of_clients = int(ports.KERNEL_RANGE.read_text(encoding="utf-8").split()[0])
    assert len(set(found.values())) == len(PLACES)
    assert max(found.values()) < lowest_of_clients


def test_a_folder_has_the_same_ports_each_time_and_another_folder_has_others() -> None:
    assert assigned() == assigned()
    assert not set(assigned().values()) & set(assigned(Path("/elsewhere/.pocketwatch")).values())


def test_a_port_in_use_moves_and_the_others_stay() -> None:
    before = assigned()

    with listener(before["redis"]):
        assert not is_free(before["redis"])
        after = dict(before)
        reassign(after, PLACES, folder=FOLDER)

    assert after["redis"] == before["redis"] + ports.BLOCK
    assert {**after, "redis": 0} == {**before, "redis": 0}


def test_a_kernel_that_gives_clients_every_port_leaves_some_for_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = tmp_path / "ip_local_port_range"
    everything.write_text("1024\t65535\n")
    monkeypatch.setattr(ports, "KERNEL_RANGE", everything)

    assert ports.LOWEST <= assigned()["amqp"] < ports.HIGHEST


def test_a_system_that_does_not_tell_its_range_has_ports_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "KERNEL_RANGE", tmp_path / "as on macOS, where Docker may run")

    assert ports.LOWEST <= assigned()["amqp"] < ports.HIGHEST
