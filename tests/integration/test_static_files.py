"""cleanup.static_files, through the broker, on releases that Django itself has made."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Files
from publishers import trigger
from schemas.ticks import CleanStaticFiles
from tests.fixtures.servers import ROOT
from tests.fixtures.suite import Consume, Deliver, Runs

CHUNK = "js/main.0123456789ab.js"  # a bundler's hash, not Django's
FIRST = {
    "css/site.css": "body { background: url('../img/logo.png') }",
    "css/page.css": "@import url('site.css');",
    "img/logo.png": "a picture",
    "img/same.png": "a picture that stays",
    "js/jquery.min.js": "jquery()\n//# sourceMappingURL=jquery.min.js.map",
    "js/jquery.min.js.map": "{}",
    CHUNK: "chunk()",
    "dropped.txt": "of the first release only",
    "LICENSE": "first",
}
SECOND = FIRST | {"img/logo.png": "another picture", "js/jquery.min.js.map": "{ }", CHUNK: "other()", "LICENSE": "2"}
del SECOND["dropped.txt"]


def release(source: Path, root: Path, files: dict[str, str]) -> dict[str, str]:
    """Collect these files with Django's collectstatic; returns what its manifest names."""
    shutil.rmtree(source, ignore_errors=True)
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    subprocess.run([sys.executable, "-m", "tests.support.collectstatic", source, root], cwd=ROOT, check=True)
    paths: dict[str, str] = json.loads((root / "staticfiles.json").read_text())["paths"]
    return paths


def compress(root: Path) -> None:
    for name in left(root) - {"staticfiles.json"}:
        if not name.endswith(".gz"):
            (root / f"{name}.gz").write_bytes(gzip.compress((root / name).read_bytes()))


def age(root: Path, *, days: float, manifest: float = 0) -> None:
    for name in left(root):
        moment = time.time() - 86400 * (manifest if name == "staticfiles.json" else days)
        os.utime(root / name, (moment, moment))


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def with_forms(names: set[str]) -> set[str]:
    return {form for name in names for form in (name, f"{name}.gz")}


async def test_of_two_releases_only_the_current_one_is_left(deliver: Deliver, static: Path, tmp_path: Path):
    first = release(tmp_path / "source", static, FIRST)
    compress(static)
    second = release(tmp_path / "source", static, SECOND)
    compress(static)
    age(static, days=31)
    superseded = set(first.values()) - set(second.values())
    assert len(superseded) == 8  # all but the picture that stays

    row = await deliver(CleanStaticFiles())

    assert row["status"] == "succeeded", row["error"]
    assert left(static) == with_forms(set(second) | set(second.values()) | {"dropped.txt"}) | {"staticfiles.json"}
    assert row["statistics"] == {
        "files_seen": len(with_forms(set(first) | set(first.values()) | set(second.values()))) + 1,
        "files_deleted": 2 * len(superseded),
        "bytes_freed": row["statistics"]["bytes_freed"],
        "directories_removed": 0,
        "errors": 0,
        "named": 2 * len(second),
    }
    assert release(tmp_path / "source", static, SECOND) == second


async def test_versions_newer_than_the_retention_are_kept(deliver: Deliver, static: Path, tmp_path: Path):
    release(tmp_path / "source", static, FIRST)
    release(tmp_path / "source", static, SECOND)
    age(static, days=29)
    before = left(static)

    row = await deliver(CleanStaticFiles())

    assert left(static) == before
    assert (row["status"], row["statistics"]["files_deleted"]) == ("succeeded", 0)


async def test_dry_run_counts_the_same_and_changes_nothing(deliver: Deliver, static: Path, tmp_path: Path):
    release(tmp_path / "source", static, FIRST)
    release(tmp_path / "source", static, SECOND)
    age(static, days=31)
    before = left(static)

    dry = await deliver(CleanStaticFiles(dry_run=True))
    assert left(static) == before
    real = await deliver(CleanStaticFiles())

    assert dry["statistics"] == real["statistics"]
    assert dry["statistics"]["files_deleted"] == len(before) - len(left(static)) == 8


async def test_missing_manifest_deletes_nothing_and_is_skipped(deliver: Deliver, static: Path, tmp_path: Path):
    release(tmp_path / "source", static, FIRST)
    release(tmp_path / "source", static, SECOND)
    age(static, days=31)
    (static / "staticfiles.json").unlink()
    before = left(static)

    row = await deliver(CleanStaticFiles())

    assert (row["status"], left(static)) == ("skipped", before)
    assert row["error"] == (
        f'manifest "{static}/staticfiles.json": missing, so no file is known to be unused; use Django\'s '
        "ManifestStaticFilesStorage, and set POCKETWATCH_STATIC_ROOT to its folder"
    )


async def test_empty_folder_is_skipped(deliver: Deliver, static: Path):
    """As the volume of compose.yaml is until a site uses it."""
    row = await deliver(CleanStaticFiles())

    assert (row["status"], left(static)) == ("skipped", set())


async def test_corrupt_manifest_deletes_nothing_and_is_retried(deliver: Deliver, static: Path, tmp_path: Path):
    release(tmp_path / "source", static, FIRST)
    release(tmp_path / "source", static, SECOND)
    age(static, days=31)
    manifest = static / "staticfiles.json"
    manifest.write_bytes(manifest.read_bytes()[:-10])
    before = left(static)

    row = await deliver(CleanStaticFiles())

    assert (row["status"], left(static)) == ("failed", before)
    assert f'manifest "{manifest}": not JSON' in row["error"]


async def test_wrong_manifest_deletes_nothing_and_is_rejected(deliver: Deliver, static: Path, tmp_path: Path):
    release(tmp_path / "source", static, FIRST)
    age(static, days=31)
    (static / "staticfiles.json").write_text('{"version": "9", "paths": {}}')
    before = left(static)

    row = await deliver(CleanStaticFiles())

    assert (row["status"], left(static)) == ("dead", before)
    assert f'manifest "{static}/staticfiles.json": version "9"' in row["error"]


async def test_missing_root_is_skipped_and_a_file_is_retried(deliver: Deliver, static: Path):
    static.rmdir()
    missing = await deliver(CleanStaticFiles())
    static.write_bytes(b"")
    file = await deliver(CleanStaticFiles())

    assert missing["status"] == "skipped"
    assert missing["error"].startswith(f'root "{static}": not there; ')
    assert (file["status"], file["error"]) == ("failed", f'root "{static}": a symbolic link or not a folder')


async def test_missing_setting_is_skipped_and_named(consume: Consume, publisher: Publisher, runs: Runs):
    async with consume(roots=Files()):
        sent = await trigger.publish(publisher, CleanStaticFiles())
        row = await runs.over(sent.message_id)

    assert row["status"] == "skipped"
    assert row["error"] == "POCKETWATCH_STATIC_ROOT: not set; set it to the folder to clean"


async def test_undeletable_file_makes_the_run_partial(
    deliver: Deliver, static: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    release(tmp_path / "source", static, FIRST)
    release(tmp_path / "source", static, SECOND)
    age(static, days=31)
    rename = os.rename

    def refuse_the_license(source: str, target: str, **folders: int) -> None:
        if source.startswith("LICENSE"):
            raise PermissionError(1, "Operation not permitted")
        rename(source, target, **folders)

    monkeypatch.setattr(os, "rename", refuse_the_license)
    row = await deliver(CleanStaticFiles())

    assert row["status"] == "partial"
    assert "1 could not be deleted, such as LICENSE." in row["error"]
    assert (row["statistics"]["errors"], row["statistics"]["files_deleted"]) == (1, 7)
