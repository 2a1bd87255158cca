"""cleanup.media, through the broker, on a real folder."""

import os
import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from consumers.cleanup.files import sweep
from consumers.cleanup.files.counters import SweepCounters
from consumers.cleanup.files.deleter import BATCH_FILES
from consumers.cleanup.files.media import clean_media
from consumers.cleanup.files.sweep import MAX_DEPTH, TreeSweeper
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Files
from publishers import trigger
from schemas.ticks import CleanMedia
from tests.fixtures.suite import Consume, Deliver, Runs


def put(path: Path, *, days_old: float, size: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    moment = time.time() - days_old * 86400
    os.utime(path, (moment, moment))


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


async def test_files_older_than_the_retention_are_deleted(deliver: Deliver, media: Path):
    put(media / "ads/1/old.jpg", days_old=8)
    put(media / "ads/2/new.jpg", days_old=6)

    row = await deliver(CleanMedia())

    assert (row["status"], row["progress"] or 1.0) == ("succeeded", 1.0)
    assert row["statistics"] == {
        "files_seen": 2,
        "files_deleted": 1,
        "bytes_freed": 10,
        "directories_removed": 1,
        "errors": 0,
        "kept_referenced": 0,
    }
    assert left(media) == {"ads/2/new.jpg"}


async def test_dry_run_counts_the_same_and_changes_nothing(deliver: Deliver, media: Path):
    for n in range(20):
        put(media / f"{n % 4}/{n}.jpg", days_old=n)

    dry = await deliver(CleanMedia(dry_run=True))
    assert len(left(media)) == 20
    real = await deliver(CleanMedia())

    assert dry["statistics"] == real["statistics"]
    assert dry["statistics"]["files_deleted"] == 20 - len(left(media)) == 13


@pytest.mark.parametrize(("days", "kept"), [(0, 0), (3, 1), (30, 2)])
async def test_retention_is_that_of_the_message(deliver: Deliver, media: Path, days: int, kept: int):
    put(media / "a", days_old=1)
    put(media / "b", days_old=5)

    await deliver(CleanMedia(retention_days=days))

    assert len(left(media)) == kept


async def test_missing_root_is_retried(deliver: Deliver, media: Path):
    media.rmdir()

    row = await deliver(CleanMedia())

    assert (row["status"], row["attempt"]) == ("failed", 1)
    assert row["error"] == f'root "{media}": missing; is its disk mounted?'


async def test_root_that_is_a_link_fails(deliver: Deliver, media: Path, tmp_path: Path):
    put(tmp_path / "elsewhere/old", days_old=30)
    media.rmdir()
    media.symlink_to(tmp_path / "elsewhere")

    row = await deliver(CleanMedia())

    assert row["status"] == "failed"
    assert "a symbolic link or not a folder" in row["error"]
    assert left(tmp_path / "elsewhere") == {"old"}


async def test_too_large_share_is_rejected_with_the_remedy(
    deliver: Deliver, media: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sweep, "SHARE_APPLIES_ABOVE", 10)
    for n in range(40):
        put(media / f"{n}", days_old=30 if n else 0)

    stopped = await deliver(CleanMedia())
    assert stopped["status"] == "dead"
    assert "39 of 40 files" in stopped["error"]
    assert "nothing was deleted. If that is right: --set max_share=1" in stopped["error"]
    assert len(left(media)) == 40

    dry = await deliver(CleanMedia(dry_run=True))
    assert dry["status"] == "succeeded"
    assert dry["statistics"]["files_deleted"] == 39

    meant = await deliver(CleanMedia(max_share=1))
    assert meant["status"] == "succeeded"
    assert left(media) == {"0"}


async def test_undeletable_file_is_named_and_makes_the_run_partial(
    deliver: Deliver, media: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in "abc":
        put(media / name, days_old=30)
    unlink = os.unlink

    def refuse_b(name: str, *, dir_fd: int) -> None:
        if name == "b":
            raise PermissionError(1, "Operation not permitted")
        unlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse_b)
    row = await deliver(CleanMedia())

    assert row["status"] == "partial"
    assert row["error"] == "1 could not be deleted, such as b: Operation not permitted"
    assert (row["statistics"]["errors"], row["statistics"]["files_deleted"]) == (1, 2)
    assert left(media) == {"b"}


async def test_names_that_are_not_text_are_in_the_log_row_and_figures_are_kept(deliver: Deliver, media: Path):
    here = os.open(media, os.O_RDONLY)
    for name in (b"caf\xe9\n", *[b"d"] * MAX_DEPTH):
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    put(media / "old", days_old=30)

    row = await deliver(CleanMedia())

    assert row["status"] == "partial"
    assert row["error"].startswith(r"1 could not be deleted, such as caf\xe9\n/d/d/")
    assert row["error"].endswith("/d/: deeper than 128 folders")
    assert (row["statistics"]["errors"], row["statistics"]["files_deleted"]) == (1, 1)
    shutil.rmtree(media)


async def test_files_that_come_after_the_survey_make_the_run_partial(
    deliver: Deliver, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sweep, "SHARE_APPLIES_ABOVE", 10)
    for n in range(40):
        put(media / f"{n}", days_old=30 if n < 5 else 0)
        put(tmp_path / f"restored/{n}", days_old=30)
    run, passes = TreeSweeper.run, iter((False, True))

    def restore_after_the_survey(self: TreeSweeper) -> SweepCounters:
        if next(passes):
            (tmp_path / "restored").rename(media / "restored")
        return run(self)

    monkeypatch.setattr(TreeSweeper, "run", restore_after_the_survey)
    row = await deliver(CleanMedia(max_share=0.5))

    assert row["status"] == "partial"
    assert row["error"].startswith(
        "20 files: all that may be deleted of the 40 that the survey found, but more old ones"
    )
    assert row["statistics"]["files_deleted"] == 80 - len(left(media)) == 20


async def test_root_of_another_job_below_the_media_root_is_left_alone(
    consume: Consume, publisher: Publisher, runs: Runs, media: Path
):
    put(media / "old.jpg", days_old=30)
    put(media / "static/site.css", days_old=30)

    async with consume(
        clean_media, roots=Files(POCKETWATCH_MEDIA_ROOT=media, POCKETWATCH_STATIC_ROOT=media / "static")
    ):
        sent = await trigger.publish(publisher, CleanMedia())
        row = await runs.over(sent.message_id)

    assert (row["status"], row["statistics"]["files_seen"]) == ("succeeded", 1)
    assert left(media) == {"static/site.css"}


async def test_run_out_of_time_is_continued(
    consume: Consume, relay: None, publisher: Publisher, runs: Runs, media: Path, monkeypatch: pytest.MonkeyPatch
):
    for n in range(3 * BATCH_FILES):
        put(media / f"{n}", days_old=30)
    run = TreeSweeper.run

    def survey_then_run_out(self: TreeSweeper) -> SweepCounters:
        monkeypatch.setattr(TreeSweeper, "run", run)
        self._sweep = replace(self._sweep, stop=lambda: False)
        return run(self)

    monkeypatch.setattr(TreeSweeper, "run", survey_then_run_out)
    async with consume(time_budget=timedelta(0)):
        sent = await trigger.publish(publisher, CleanMedia())
        row = await runs.over(sent.message_id)
        rest = await runs.over(f"{sent.message_id}.1")

    assert row["statistics"]["continued_by"] == f"{sent.message_id}.1"
    assert row["statistics"]["files_deleted"] == 3 * BATCH_FILES - len(left(media)) == BATCH_FILES
    assert rest["status"] == "partial"


async def test_run_without_progress_is_partial_and_not_continued(
    consume: Consume, publisher: Publisher, runs: Runs, media: Path
):
    put(media / "old", days_old=30)

    async with consume(time_budget=timedelta(0)):
        sent = await trigger.publish(publisher, CleanMedia())
        row = await runs.over(sent.message_id)

    assert (row["status"], row["statistics"]["files_deleted"]) == ("partial", 0)
    assert row["error"] == "time budget 0:00:00: exhausted before the end; raise POCKETWATCH_TIME_BUDGET"
    assert left(media) == {"old"}


async def test_missing_setting_is_named(consume: Consume, publisher: Publisher, runs: Runs):
    async with consume(roots=Files()):
        sent = await trigger.publish(publisher, CleanMedia())
        row = await runs.over(sent.message_id)

    assert row["status"] == "dead"
    assert row["error"] == "POCKETWATCH_MEDIA_ROOT: not set; set it to the folder to clean"
