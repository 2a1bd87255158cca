"""Sweeping a folder on a real file system: what is deleted, what stays, and what cannot be reached."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from consumers.cleanup.files.counters import SweepCounters
from consumers.cleanup.files.folder import Folder, RootUnusable
from consumers.cleanup.files.sweep import MAX_DEPTH, Sweep, TreeSweeper
from pocketwatch.errors import Reject

NOW = time.time()
OLD = NOW - 10 * 86400
CUTOFF = NOW - 7 * 86400


def put(path: Path, *, mtime: float = OLD, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (mtime, mtime))
    return path


def sweep(root: Path, **changes: object) -> Sweep:
    return Sweep(root=root, older_than=CUTOFF, **changes)  # type: ignore[arg-type]


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


def test_old_files_are_deleted_at_every_depth(root: Path):
    put(root / "a.jpg")
    put(root / "deep/er/b.jpg")
    put(root / "deep/c.jpg", mtime=NOW)

    counters = sweep(root).delete()

    assert left(root) == {"deep", "deep/c.jpg"}
    assert counters.statistics() == {
        "files_seen": 3,
        "files_deleted": 2,
        "bytes_freed": 20,
        "directories_removed": 1,
        "errors": 0,
    }


def test_file_of_exactly_the_retention_is_kept(root: Path):
    put(root / "edge", mtime=CUTOFF)
    put(root / "older", mtime=CUTOFF - 0.001)

    sweep(root).delete()

    assert left(root) == {"edge"}


def test_root_is_kept_when_everything_is_deleted(root: Path):
    put(root / "a")

    sweep(root).delete()

    assert root.is_dir()
    assert left(root) == set()


def test_files_in_use_are_kept_with_their_folders(root: Path):
    put(root / "a/1.jpg")
    put(root / "a/2.jpg")
    put(root / "b/1.jpg")
    used = {"a/2.jpg"}

    survey, counters = (
        getattr(sweep(root, in_use=used.intersection), verb)().statistics() for verb in ("survey", "delete")
    )

    assert left(root) == {"a", "a/2.jpg"}
    assert survey == counters
    assert (counters["files_deleted"], counters["kept_referenced"], counters["directories_removed"]) == (2, 1, 1)


def test_stop_while_files_are_checked_leaves_the_rest_to_a_continuation(root: Path):
    for n in range(3):
        put(root / f"{n}/a.jpg")
    asked: list[str] = []

    def ask(paths: Sequence[str]) -> set[str]:
        asked.extend(paths)
        return set()

    counters = sweep(root, in_use=ask, stop=lambda: bool(asked)).delete()

    assert counters.stopped
    assert counters.files_deleted == 1
    assert len([path for path in root.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize(("used", "asked"), [(0, 4), (2, 8)])
def test_survey_asks_what_is_in_use_only_if_too_many_are_old(
    root: Path, monkeypatch: pytest.MonkeyPatch, used: int, asked: int
):
    monkeypatch.setattr("consumers.cleanup.files.sweep.SHARE_APPLIES_ABOVE", 1)
    for n in range(4):
        put(root / f"{n}.jpg")
    put(root / "new.jpg", mtime=NOW)
    paths: list[str] = []

    def ask(several: Sequence[str]) -> set[str]:
        paths.extend(several)
        return set(sorted(several)[:used])

    counters = sweep(root, in_use=ask, max_share=0.5 if used else 0.8).delete()

    assert (counters.files_deleted, len(paths)) == (4 - used, asked)


@pytest.mark.parametrize("error", [TimeoutError("slow"), RuntimeError("broken")])
def test_nothing_is_deleted_when_it_cannot_be_known_what_is_in_use(
    root: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("consumers.cleanup.files.sweep.CHECK_FILES", 1)
    put(root / "a/1.jpg")
    put(root / "b/1.jpg")

    def fail(_: Sequence[str]) -> set[str]:
        raise error

    with pytest.raises(type(error)):
        sweep(root, in_use=fail).delete()

    assert left(root) == {"a", "a/1.jpg", "b", "b/1.jpg"}


def test_survey_counts_the_same_and_changes_nothing(root: Path):
    for n in range(700):
        put(root / f"{n % 7}/{n % 3}/{n}", mtime=OLD if n % 5 else NOW)
    before = left(root)

    counted = sweep(root).survey()
    assert left(root) == before

    assert sweep(root).delete().statistics() == counted.statistics()
    assert counted.files_deleted == 560


def test_link_is_neither_followed_nor_deleted(root: Path, tmp_path: Path):
    outside = put(tmp_path / "outside/precious")
    (root / "to_file").symlink_to(outside)
    (root / "to_folder").symlink_to(outside.parent)
    (root / "dangling").symlink_to(tmp_path / "nowhere")

    counters = sweep(root).delete()

    assert outside.exists()
    assert left(root) == {"to_file", "to_folder", "dangling"}
    assert counters.files_seen == 0


def test_root_that_is_a_link_is_refused(root: Path, tmp_path: Path):
    put(root / "a")
    (tmp_path / "link").symlink_to(root)

    with pytest.raises(RootUnusable, match=r'root ".*link": a symbolic link or not a folder'):
        sweep(tmp_path / "link").delete()
    assert left(root) == {"a"}


def test_missing_root_is_refused(tmp_path: Path):
    with pytest.raises(RootUnusable, match=r": missing; is its disk mounted\?"):
        sweep(tmp_path / "unmounted").survey()


def test_only_regular_files_are_deleted(root: Path):
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        for name in ("fifo", "socket"):
            os.utime(root / name, (OLD, OLD))

        sweep(root).delete()

        assert left(root) == {"fifo", "socket"}


def test_empty_folder_is_removed_only_when_old(root: Path):
    (root / "fresh").mkdir()
    (root / "stale/inner").mkdir(parents=True)
    for path in (root / "stale/inner", root / "stale"):
        os.utime(path, (OLD, OLD))

    counters = sweep(root).delete()

    assert left(root) == {"fresh"}
    assert counters.directories_removed == 2


def test_bytes_of_a_file_with_other_hard_links_are_not_counted(root: Path, tmp_path: Path):
    os.link(put(root / "a", size=1000), tmp_path / "elsewhere")

    assert sweep(root).delete().bytes_freed == 0


def test_file_deleted_by_another_process_is_no_error(root: Path, monkeypatch: pytest.MonkeyPatch):
    for name in "abc":
        put(root / name)
    unlink = os.unlink

    def delete_twice(name: str, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", delete_twice)
    counters = sweep(root).delete()

    assert (counters.files_deleted, counters.errors) == (0, 0)


@pytest.fixture
def undeletable(root: Path) -> Iterator[Path]:
    path = put(root / "locked/kept")
    as_root = os.geteuid() == 0  # who may delete anything but what is immutable
    lock, unlock = ("chattr +i", "chattr -i") if as_root else ("chmod 555", "chmod 755")
    subprocess.run([*lock.split(), path if as_root else path.parent], check=True)
    yield path
    subprocess.run([*unlock.split(), path if as_root else path.parent], check=True)


def test_undeletable_file_is_named_and_the_others_are_deleted(root: Path, undeletable: Path):
    put(root / "elsewhere")

    counters = sweep(root).delete()

    assert left(root) == {"locked", "locked/kept"}
    assert undeletable.exists()
    assert counters.errors == 1
    assert counters.files_deleted == 1
    assert counters.examples[0] in {"locked/kept: Operation not permitted", "locked/kept: Permission denied"}


def test_folder_replaced_by_a_link_redirects_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(root / "victim/a")
    precious = put(tmp_path / "outside/a")
    scan = TreeSweeper._scan

    def swap_first(self: TreeSweeper, folder: Folder) -> None:
        if folder.name == "victim":
            (root / "victim").rename(tmp_path / "moved")
            (root / "victim").symlink_to(precious.parent)
        scan(self, folder)

    monkeypatch.setattr(TreeSweeper, "_scan", swap_first)
    sweep(root).delete()

    assert precious.exists()


def test_too_deep_folder_is_an_error_and_the_others_are_swept(root: Path):
    here = os.open(root, os.O_RDONLY)
    for _ in range(MAX_DEPTH + 3):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    put(root / "a")

    counters = sweep(root).delete()

    assert counters.errors == 1
    assert "deeper than 128 folders" in counters.examples[0]
    assert not (root / "a").exists()
    shutil.rmtree(root)


def test_names_of_any_bytes_are_deleted(root: Path):
    for name in (b"\xff\xfe", "фото 1.jpg".encode(), b" ", b"new\nline"):
        with open(os.path.join(os.fsencode(root), name), "wb"):  # noqa: PTH118,PTH123  pathlib does not take bytes
            pass
        os.utime(os.path.join(os.fsencode(root), name), (OLD, OLD))  # noqa: PTH118

    assert sweep(root).delete().files_deleted == 4
    assert left(root) == set()


class Everything:
    """A rule that keeps nothing."""

    def __init__(self, _: Folder) -> None:
        self.statistics = {"asked": 0}

    def enter(self, folder: Folder) -> None:
        self.entered = folder.path

    def may_delete(self, folder: Folder, name: str, status: os.stat_result) -> Callable[[], bool]:
        assert folder.path == self.entered
        assert (status.st_size, name[0]) == (10, "f")
        self.statistics["asked"] += 1
        return lambda: True


def test_rule_is_asked_folder_by_folder_and_deletes_no_new_file(root: Path):
    for path in ("f1", "a/f2", "a/b/f3", "a/f4", "c/f5"):
        put(root / path)
    put(root / "a/f6", mtime=NOW)

    counters = sweep(root, rule=Everything).delete()

    assert left(root) == {"a", "a/b", "c", "a/f6"}
    assert (counters.files_deleted, counters.directories_removed) == (5, 0)
    assert counters.statistics()["asked"] == 6


def test_sweep_can_be_stopped(root: Path):
    for n in range(500):
        put(root / f"{n:04d}")
    counters = SweepCounters()

    sweep(root, stop=lambda: counters.expected is not None).delete(counters)  # after the survey

    assert counters.stopped
    assert 0 < counters.files_deleted < 500
    assert len(left(root)) == 500 - counters.files_deleted


def test_too_large_share_is_refused(root: Path):
    survey = SweepCounters(files_seen=2000, files_deleted=1901)

    with pytest.raises(Reject, match=r"1901 of 2000 files .* nothing was deleted. If that is right: --set max_share=1"):
        sweep(root, max_share=0.95).check_share(survey)


@pytest.mark.parametrize(("seen", "expired", "share"), [(1000, 1000, 0.95), (2000, 1900, 0.95), (5000, 5000, 1.0)])
def test_plausible_share_or_few_files_are_accepted(root: Path, seen: int, expired: int, share: float):
    sweep(root, max_share=share).check_share(SweepCounters(files_seen=seen, files_deleted=expired))


def test_many_folders_leave_no_descriptor_open(root: Path):
    for n in range(1500):
        put(root / f"{n % 30}/{n}/file")
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())

    counters = sweep(root).delete()

    assert counters.directories_removed == 1530
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_unopenable_root_is_refused_with_its_reason(tmp_path: Path):
    with pytest.raises(RootUnusable, match=": File name too long"):
        Sweep(root=tmp_path / ("x" * 300), older_than=CUTOFF).survey()
