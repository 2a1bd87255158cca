"""cleanup.log_files, through the broker, on logs that real rotations have left."""

import logging.handlers
import os
import time
from pathlib import Path

import pytest

from consumers.cleanup.files import sweep
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Files
from publishers import trigger
from schemas.ticks import CleanLogFiles
from tests.fixtures.suite import Consume, Deliver, Runs


def put(path: Path, *, days_old: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
    moment = time.time() - days_old * 86400
    os.utime(path, (moment, moment))


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


async def test_rotated_logs_are_deleted_except_the_newest_of_each_series(deliver: Deliver, logs: Path):
    put(logs / "app.log", days_old=0)
    put(logs / "app.log.1", days_old=29)
    put(logs / "app.log.2.gz", days_old=31)
    put(logs / "job.2026-01-01.log", days_old=90)
    put(logs / "job.2026-01-02.log", days_old=89)
    put(logs / "notes.txt", days_old=900)

    row = await deliver(CleanLogFiles())

    assert row["status"] == "succeeded", row["error"]
    assert left(logs) == {"app.log", "app.log.1", "job.2026-01-02.log", "notes.txt"}
    assert row["statistics"] == {
        "files_seen": 6,
        "files_deleted": 2,
        "bytes_freed": 20,
        "directories_removed": 0,
        "errors": 0,
        "newest_kept": 1,
        "held_open": 0,
    }


async def test_logs_of_pythons_handlers_are_cleaned_while_they_write(deliver: Deliver, logs: Path):
    handler = logging.handlers.RotatingFileHandler(logs / "app.log", maxBytes=10, backupCount=5)
    for n in range(8):
        handler.emit(logging.makeLogRecord({"msg": f"line {n} of ten bytes or more"}))
    for path in logs.iterdir():
        moment = time.time() - 86400 * (40 + int(path.suffix[1:]) if path.suffix != ".log" else 40)
        os.utime(path, (moment, moment))
    assert left(logs) == {"app.log", *(f"app.log.{n}" for n in range(1, 6))}

    row = await deliver(CleanLogFiles())
    handler.emit(logging.makeLogRecord({"msg": "the next line"}))
    handler.close()

    assert row["status"] == "succeeded", row["error"]
    assert left(logs) == {"app.log", "app.log.1"}
    assert (logs / "app.log").read_text() == "the next line\n"


async def test_dry_run_counts_the_same_and_changes_nothing(deliver: Deliver, logs: Path):
    for n in range(60):
        put(logs / f"{n % 4}/app.log.{n}", days_old=n)

    dry = await deliver(CleanLogFiles(dry_run=True))
    assert len(left(logs)) == 60
    real = await deliver(CleanLogFiles())

    assert dry["statistics"] == real["statistics"]
    assert dry["statistics"]["files_deleted"] == 60 - len(left(logs)) == 30


@pytest.mark.parametrize(("days", "kept"), [(0, 1), (3, 2), (30, 3)])
async def test_retention_is_that_of_the_message(deliver: Deliver, logs: Path, days: int, kept: int):
    for n, days_old in enumerate((0, 1, 5)):
        put(logs / f"app.log.{n}", days_old=days_old)

    await deliver(CleanLogFiles(retention_days=days))

    assert len(left(logs)) == kept


async def test_too_large_share_is_rejected(deliver: Deliver, logs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweep, "SHARE_APPLIES_ABOVE", 10)
    for n in range(40):
        put(logs / f"app.log.{n}", days_old=31 + n)

    row = await deliver(CleanLogFiles())

    assert row["status"] == "dead"
    assert "39 of 40 files" in row["error"]
    assert len(left(logs)) == 40


async def test_missing_root_is_skipped_and_linked_root_is_retried(deliver: Deliver, logs: Path, tmp_path: Path):
    logs.rmdir()
    missing = await deliver(CleanLogFiles())
    put(tmp_path / "elsewhere/app.log.1", days_old=90)
    put(tmp_path / "elsewhere/app.log", days_old=0)
    logs.symlink_to(tmp_path / "elsewhere")
    link = await deliver(CleanLogFiles())

    assert missing["status"] == "skipped"
    assert missing["error"].startswith(f'root "{logs}": not there; ')
    assert (link["status"], link["error"]) == ("failed", f'root "{logs}": a symbolic link or not a folder')
    assert len(left(tmp_path / "elsewhere")) == 2


async def test_missing_setting_is_skipped_and_named(consume: Consume, publisher: Publisher, runs: Runs):
    async with consume(roots=Files()):
        sent = await trigger.publish(publisher, CleanLogFiles())
        row = await runs.over(sent.message_id)

    assert row["status"] == "skipped"
    assert row["error"] == "POCKETWATCH_LOG_ROOT: not set; set it to the folder to clean"


async def test_undeletable_file_makes_the_run_partial(deliver: Deliver, logs: Path, monkeypatch: pytest.MonkeyPatch):
    for n in range(4):
        put(logs / f"app.log.{n}", days_old=40 + n)
    rename = os.rename

    def refuse_one(source: str, target: str, **folders: int) -> None:
        if source == "app.log.2":
            raise PermissionError(1, "Operation not permitted")
        rename(source, target, **folders)

    monkeypatch.setattr(os, "rename", refuse_one)
    row = await deliver(CleanLogFiles())

    assert row["status"] == "partial"
    assert row["error"] == "1 could not be deleted, such as app.log.2: Operation not permitted"
    assert left(logs) == {"app.log.0", "app.log.2"}
