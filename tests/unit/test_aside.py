"""Deleting a file whose name others give to another file meanwhile."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumers.cleanup.files import safe_delete
from consumers.cleanup.files.safe_delete import LEFT_ASIDE, Proof


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def proof(path: Path, still: Callable[[], bool] = lambda: True) -> Proof:
    return Proof(path.stat(), still)


def once_it_is_aside(folder: Path, act: Callable[[], object]) -> Callable[[], bool]:
    """Does something between the look at the file under its own name and its unlink."""

    def still() -> bool:
        if any(LEFT_ASIDE.search(path.name) for path in folder.iterdir()):
            act()
        return True

    return still


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_file_that_was_meant_goes(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")

    assert safe_delete.delete(folder, "a", proof(tmp_path / "a"))
    assert contents(tmp_path) == {}


def test_another_file_under_its_name_stays(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    known = proof(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").write_text("other")

    assert not safe_delete.delete(folder, "a", known)
    assert contents(tmp_path) == {"a": "other", "b": "meant"}


def test_a_file_that_was_written_to_stays(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    known = proof(tmp_path / "a")
    (tmp_path / "a").write_text("meant, and needed")

    assert not safe_delete.delete(folder, "a", known)
    assert contents(tmp_path) == {"a": "meant, and needed"}


def test_a_file_that_takes_the_name_at_the_last_moment_goes_back(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a").write_text("meant")
    known, rename = proof(tmp_path / "a"), os.rename

    def rotate_first(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        (tmp_path / "b").write_text("newest")
        (tmp_path / "a").unlink()
        (tmp_path / "b").replace(tmp_path / "a")
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", rotate_first)

    assert not safe_delete.delete(folder, "a", known)
    assert contents(tmp_path) == {"a": "newest"}


def test_what_is_written_under_the_free_name_meanwhile_stays(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    write = once_it_is_aside(tmp_path, lambda: (tmp_path / "a").write_text("written anew"))

    assert safe_delete.delete(folder, "a", proof(tmp_path / "a", write))
    assert contents(tmp_path) == {"a": "written anew"}


def test_it_goes_back_when_something_speaks_for_it_at_the_last_moment(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    answers = iter([True, False])

    assert not safe_delete.delete(folder, "a", proof(tmp_path / "a", lambda: next(answers)))
    assert contents(tmp_path) == {"a": "meant"}


def test_it_goes_back_when_nobody_can_say(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")

    def fail() -> None:
        raise RuntimeError("no manifest")

    with pytest.raises(RuntimeError, match="no manifest"):
        safe_delete.delete(folder, "a", proof(tmp_path / "a", once_it_is_aside(tmp_path, fail)))
    assert contents(tmp_path) == {"a": "meant"}


def test_nothing_is_overwritten_when_it_cannot_go_back_and_the_error_says_where_it_is(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    inode = (tmp_path / "a").stat().st_ino

    def take_the_name_and_touch() -> None:
        (tmp_path / "a").write_text("written anew")
        raise RuntimeError

    left = f"a.{inode}.pocketwatch"
    with pytest.raises(OSError, match=re.escape(f'stays as "{left}", it could not be put back: File exists')):
        safe_delete.delete(folder, "a", proof(tmp_path / "a", once_it_is_aside(tmp_path, take_the_name_and_touch)))
    assert contents(tmp_path) == {"a": "written anew", left: "meant"}
