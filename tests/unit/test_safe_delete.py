"""Deleting a file whose name another process gives to another file."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from consumers.cleanup.files import safe_delete
from consumers.cleanup.files.safe_delete import TEMPORARY_SUFFIX, Precondition, version


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def precondition(path: Path, condition: Callable[[], bool] = lambda: True) -> Precondition:
    return Precondition(version(path.stat()), condition)


def once_renamed(folder: Path, act: Callable[[], object]) -> Callable[[], bool]:
    """A condition that acts after the rename of the file and before its unlink."""

    def condition() -> bool:
        if any(TEMPORARY_SUFFIX.search(path.name) for path in folder.iterdir()):
            act()
        return True

    return condition


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_unchanged_file_is_deleted(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")

    assert safe_delete.delete(folder, "a", precondition(tmp_path / "a"))
    assert contents(tmp_path) == {}


def test_other_file_under_the_name_is_kept(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    known = precondition(tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").write_text("other")

    assert not safe_delete.delete(folder, "a", known)
    assert contents(tmp_path) == {"a": "other", "b": "meant"}


def test_modified_file_is_kept(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    known = precondition(tmp_path / "a")
    (tmp_path / "a").write_text("meant, and needed")

    assert not safe_delete.delete(folder, "a", known)
    assert contents(tmp_path) == {"a": "meant, and needed"}


def test_file_that_takes_the_name_before_the_rename_gets_it_back(
    tmp_path: Path, folder: int, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a").write_text("meant")
    known, rename = precondition(tmp_path / "a"), os.rename

    def rotate_first(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        (tmp_path / "b").write_text("newest")
        (tmp_path / "a").unlink()
        (tmp_path / "b").replace(tmp_path / "a")
        rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", rotate_first)

    assert not safe_delete.delete(folder, "a", known)
    assert contents(tmp_path) == {"a": "newest"}


def test_file_written_under_the_free_name_is_kept(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    write = once_renamed(tmp_path, lambda: (tmp_path / "a").write_text("rewritten"))

    assert safe_delete.delete(folder, "a", precondition(tmp_path / "a", write))
    assert contents(tmp_path) == {"a": "rewritten"}


def test_file_is_restored_when_its_condition_no_longer_holds(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    answers = iter([True, False])

    assert not safe_delete.delete(folder, "a", precondition(tmp_path / "a", lambda: next(answers)))
    assert contents(tmp_path) == {"a": "meant"}


def test_file_is_restored_when_its_condition_raises(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")

    def fail() -> None:
        raise RuntimeError("no manifest")

    with pytest.raises(RuntimeError, match="no manifest"):
        safe_delete.delete(folder, "a", precondition(tmp_path / "a", once_renamed(tmp_path, fail)))
    assert contents(tmp_path) == {"a": "meant"}


def test_restoring_overwrites_nothing_and_the_error_names_the_file(tmp_path: Path, folder: int):
    (tmp_path / "a").write_text("meant")
    inode = (tmp_path / "a").stat().st_ino

    def take_the_name_and_fail() -> None:
        (tmp_path / "a").write_text("rewritten")
        raise RuntimeError

    left = f"a.{inode}.pocketwatch"
    with pytest.raises(OSError, match=re.escape(f'left as "{left}", could not be renamed back: File exists')):
        safe_delete.delete(folder, "a", precondition(tmp_path / "a", once_renamed(tmp_path, take_the_name_and_fail)))
    assert contents(tmp_path) == {"a": "rewritten", left: "meant"}
