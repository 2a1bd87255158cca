"""Which logs are rotated, which is the newest of its series, and what a rotation during a sweep does."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from consumers.cleanup.files import safe_delete
from consumers.cleanup.files.log_files import LogName, Rotated, log_of
from consumers.cleanup.files.sweep import Sweep

NOW = time.time()
DAY = 86400
CUTOFF = NOW - 30 * DAY


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def put(path: Path, *, days_old: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
    os.utime(path, (NOW - days_old * DAY, NOW - days_old * DAY))
    return path


def sweep(root: Path, **changes: Any) -> Sweep:
    return Sweep(root=root, older_than=CUTOFF, rule=lambda _: Rotated(older_than=CUTOFF), **changes)


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def deleted(root: Path) -> set[str]:
    before = left(root)
    sweep(root).delete()
    return before - left(root)


def test_rotated_logs_older_than_the_retention_are_deleted(root: Path):
    put(root / "app.log", days_old=0)
    put(root / "app.log.1", days_old=20)
    put(root / "app.log.2.gz", days_old=40)
    put(root / "web/access.log-20260101.gz", days_old=300)
    put(root / "web/access.log", days_old=1)

    counters = sweep(root).delete()

    assert left(root) == {"app.log", "app.log.1", "web", "web/access.log"}
    assert counters.statistics() == {
        "files_seen": 5,
        "files_deleted": 2,
        "bytes_freed": 20,
        "directories_removed": 0,
        "errors": 0,
        "newest_kept": 0,
        "held_open": 0,
    }


def test_survey_counts_the_same_and_changes_nothing(root: Path):
    for n in range(300):
        put(root / f"{n % 7}/app.log.{n}", days_old=n / 3)
        put(root / f"{n % 7}/quiet.log.{n}", days_old=31 + n)
    before = left(root)

    counted = sweep(root).survey().statistics()

    assert left(root) == before
    assert counted == sweep(root).delete().statistics()
    assert counted["newest_kept"] == 7


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("app.log.1", "app.log"),
        ("app.log.12", "app.log"),
        ("app.log.2.gz", "app.log"),
        ("app.log.gz", "app.log"),
        ("app.log-20260101", "app.log"),
        ("app.log-20260101.gz", "app.log"),
        ("app.log-2026010113.xz", "app.log"),
        ("app.log-20260101-1767225600.zst", "app.log"),
        ("app.log.2026-01-01", "app.log"),
        ("app.log.2026-01-01_13-45-00", "app.log"),
        ("app.log.2026-01-01_13", "app.log"),
        ("app.log.2026-01-01T13:45:00Z.bz2", "app.log"),
        ("app.log_20260101", "app.log"),
        ("app.log.20260101.1.gz", "app.log"),
        ("app.2026-01-01_00-00-00_123456.log", "app.log"),
        ("app.2026-01-01_00-00-00_123456.2.log", "app.log"),
        ("app.2026-01-01_00-00-00_123456.log.tar.gz", "app.log"),
        ("app.2026-01-01.log.zip", "app.log"),
        ("app-2026-01-01T18-30-00.000.log.gz", "app.log"),
        ("app_20260101.log", "app.log"),
        ("app.2026.01.01.log", "app.log"),
        ("laravel-2026-01-01.log", "laravel.log"),
        ("2026-01-01.log", ".log"),
        ("my.log.parser.log.3", "my.log.parser.log"),
        ("journal інший.log.1", "journal інший.log"),
        ("two\nlines.log.1", "two\nlines.log"),
        ("app.log.3.77.pocketwatch", "app.log"),
        ("app.log.3.gz.77.pocketwatch", "app.log"),
    ],
)
def test_rotated_logs_are_recognised_by_name(name: str, series: str):
    log = log_of(name)

    assert log is not None
    assert (log.series, log.rotated) == (series, True)


@pytest.mark.parametrize(
    "name", ["app.log", "worker-2.log", "app.1.log", "user-12345678.log", "app-20261399.log", ".log"]
)
def test_log_without_additions_of_a_rotation_is_live(name: str):
    assert log_of(name) == LogName(name, rotated=False)


@pytest.mark.parametrize(
    "name",
    [
        "app.log.lock",
        "app.log.pos",
        "app.log.1.lock",
        "app.log.txt",
        "app.logger.py",
        "app.logs",
        "blog.1",
        "syslog.1",
        "access_log.1",
        "wtmp",
        "dump.sql.gz",
        "app.log.old",
        "app.log~",
        "app.LOG.1",
        "log.1",
    ],
)
def test_other_files_are_kept(root: Path, name: str):
    put(root / name, days_old=900)
    put(root / f"newer-{name}", days_old=0)

    assert log_of(name) is None
    assert deleted(root) == set()


def test_long_names_are_matched_quickly():
    began = time.perf_counter()

    for name in ("-20260101" * 28 + "x", ".log.1" * 42 + "x", "." * 255, ".log" + ".1" * 120 + ".pocketwatchx"):
        log_of(name)

    assert time.perf_counter() - began < 5  # not for ever


def test_newest_log_of_each_series_is_kept_however_old(root: Path):
    for days_old in (400, 500, 600):
        put(root / f"a/app.log.{days_old}", days_old=days_old)
        put(root / f"a/job.{days_old}.log", days_old=days_old)
        put(root / f"b/app.2024-01-{days_old // 100:02d}.log.gz", days_old=days_old)

    counters = sweep(root).delete()

    jobs = {f"a/job.{n}.log" for n in (400, 500, 600)}
    assert left(root) == {"a", "b", "a/app.log.400", "b/app.2024-01-04.log.gz", *jobs}
    assert (counters.files_deleted, counters.rule["newest_kept"]) == (4, 5)


def test_newest_log_is_decided_by_time_and_not_by_number(root: Path):
    put(root / "app.log.1", days_old=500)
    put(root / "app.log.9", days_old=400)

    assert deleted(root) == {"app.log.1"}


def test_live_log_is_never_deleted(root: Path):
    put(root / "app.log", days_old=400)
    put(root / "app.log.1", days_old=500)
    put(root / "job.log", days_old=500)
    put(root / "job.log.1", days_old=400)

    assert deleted(root) == {"app.log.1"}


def test_logs_written_at_the_same_moment_are_both_kept(root: Path):
    for name in ("app.log.1", "app.log.2"):
        os.utime(put(root / name, days_old=0), (1, 1))

    assert deleted(root) == set()


def test_series_is_limited_to_one_folder(root: Path):
    put(root / "app.log", days_old=0)
    put(root / "old/app.log.1", days_old=400)

    assert deleted(root) == set()


def test_link_is_not_the_newest_log(root: Path, tmp_path: Path):
    put(tmp_path / "outside.log", days_old=0)
    put(root / "app.log.1", days_old=400)
    (root / "app.log").symlink_to(tmp_path / "outside.log")

    assert deleted(root) == set()


def test_old_empty_folders_are_kept(root: Path):
    (root / "empty").mkdir()
    os.utime(root / "empty", (1, 1))

    assert deleted(root) == set()


def rotate(root: Path, *, count: int = 9) -> None:
    """As logrotate does it: from the highest number down, then the live log."""
    for n in range(count, 0, -1):
        if (root / f"app.log.{n}").exists():
            (root / f"app.log.{n}").rename(root / f"app.log.{n + 1}")
    (root / "app.log").rename(root / "app.log.1")


def contents(root: Path) -> set[str]:
    return {path.read_text() for path in root.iterdir()}


def series(root: Path) -> None:
    """app.log is the newest and contains "0", app.log.1 contains "1", …; all are older than the retention."""
    for n in range(6):
        path = root / (f"app.log.{n}" if n else "app.log")
        path.write_text(str(n))
        os.utime(path, (CUTOFF - (n + 1) * DAY,) * 2)


def test_second_newest_is_kept_when_the_newest_vanishes(root: Path, monkeypatch: pytest.MonkeyPatch):
    put(root / "app.log", days_old=400)
    put(root / "app.log.1", days_old=500)
    delete = safe_delete.delete

    def take_away_first(folder: int, name: str, precondition: safe_delete.Precondition) -> bool:
        (root / "app.log").unlink(missing_ok=True)
        return delete(folder, name, precondition)

    monkeypatch.setattr(safe_delete, "delete", take_away_first)
    sweep(root).delete()

    assert left(root) == {"app.log.1"}


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_rotation_between_scan_and_deletion_deletes_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, rotations: int
):
    series(root)
    delete, done = safe_delete.delete, []

    def rotate_first(folder: int, name: str, precondition: safe_delete.Precondition) -> bool:
        if not done:
            done.extend(rotate(root) or n for n in range(rotations))
        return delete(folder, name, precondition)

    monkeypatch.setattr(safe_delete, "delete", rotate_first)
    counters = sweep(root).delete()

    assert contents(root) == set("012345")
    assert (counters.files_deleted, counters.errors) == (0, 0)


def test_rotation_during_the_deletion_keeps_the_newest(root: Path, monkeypatch: pytest.MonkeyPatch):
    series(root)
    rename, done = os.rename, []

    def rotate_first(source: str, target: str, **folders: int) -> None:
        if not done and source == "app.log.1":
            done.append(True)
            for n in range(5, 0, -1):
                if (root / f"app.log.{n}").exists():
                    rename(root / f"app.log.{n}", root / f"app.log.{n + 1}")
            rename(root / "app.log", root / "app.log.1")  # the newest, under a name that is about to go
        rename(source, target, **folders)

    monkeypatch.setattr(os, "rename", rotate_first)
    sweep(root).delete()

    assert done
    assert (root / "app.log.1").read_text() == "0"


def test_newest_survives_rotations_during_sweeps(root: Path):
    code = """
import os, sys
root, moment = sys.argv[1], float(sys.argv[2])
for turn in range(600):
    for n in range(8, 0, -1):
        try: os.rename(f"{root}/app.log.{n}", f"{root}/app.log.{n + 1}")
        except FileNotFoundError: pass
    try: os.rename(f"{root}/app.log", f"{root}/app.log.1")
    except FileNotFoundError: pass
    with open(f"{root}/new", "w") as file: file.write(str(turn))
    os.utime(f"{root}/new", (moment + turn,) * 2)
    os.rename(f"{root}/new", f"{root}/app.log")
"""
    rotating = subprocess.Popen([sys.executable, "-c", code, str(root), str(CUTOFF - 100 * DAY)])
    total = 0
    while rotating.poll() is None:
        total += sweep(root).delete().files_deleted

    assert rotating.returncode == 0
    assert total > 0
    assert "599" in contents(root)
    assert deleted(root) <= {f"app.log.{n}" for n in range(1, 10)}
    assert contents(root) >= {"599"}


def test_memory_does_not_grow_with_the_number_of_logs(root: Path):
    for n in range(400):
        put(root / f"app.log.{n}", days_old=n)
    rules: list[Rotated] = []

    def remembered(_: object) -> Rotated:
        rules.append(Rotated(older_than=CUTOFF))
        return rules[-1]

    Sweep(root=root, older_than=CUTOFF, rule=remembered).delete()

    assert len(rules[0]._newest) == 1
