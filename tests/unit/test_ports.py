"""Ports of private servers."""

from pathlib import Path

import pytest

from pocketwatch.stack import ports
from pocketwatch.stack.ports import OFFSETS, is_free, reassign
from tests.support.machine import listener

FOLDER = Path("/somewhere/.pocketwatch")


def assigned(folder: Path = FOLDER) -> dict[str, int]:
    found: dict[str, int] = {}
    reassign(found, OFFSETS, folder=folder)
    return found


def test_ports_are_distinct_and_below_the_ephemeral_range() -> None:
    found = assigned()

    lowest_ephemeral = int(ports.KERNEL_RANGE.read_text(encoding="utf-8").split()[0])
    assert len(set(found.values())) == len(OFFSETS)
    assert max(found.values()) < lowest_ephemeral


def test_ports_depend_on_the_folder_only() -> None:
    assert assigned() == assigned()
    assert not set(assigned().values()) & set(assigned(Path("/elsewhere/.pocketwatch")).values())


def test_nodes_of_a_cluster_have_blocks_of_their_own() -> None:
    found = dict(assigned())

    reassign(found, ["amqp2", "distribution2", "amqp3", "distribution3"], folder=FOLDER)

    blocks = [found[name] // ports.BLOCK for name in ("amqp", "amqp2", "amqp3")]
    assert len(set(blocks)) == 3
    assert [found[f"distribution{node}"] - found[f"amqp{node}"] for node in ("", "2", "3")] == [2, 2, 2]


def test_only_a_port_in_use_is_replaced() -> None:
    before = assigned()

    with listener(before["redis"]):
        assert not is_free(before["redis"])
        after = dict(before)
        reassign(after, OFFSETS, folder=FOLDER)

    assert after["redis"] == before["redis"] + ports.BLOCK
    assert {**after, "redis": 0} == {**before, "redis": 0}


def test_ports_are_found_when_all_ports_are_ephemeral(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = tmp_path / "ip_local_port_range"
    everything.write_text("1024\t65535\n")
    monkeypatch.setattr(ports, "KERNEL_RANGE", everything)

    assert ports.LOWEST <= assigned()["amqp"] < ports.HIGHEST


def test_ports_are_found_when_the_ephemeral_range_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "KERNEL_RANGE", tmp_path / "as on macOS, where Docker may run")

    assert ports.LOWEST <= assigned()["amqp"] < ports.HIGHEST
