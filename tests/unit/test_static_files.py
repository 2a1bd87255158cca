"""Which static files are old versions, and what a manifest must be for anything to go."""

import gzip
import json
import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from consumers.cleanup.files import manifest, safe_delete
from consumers.cleanup.files.counters import SweepCounters
from consumers.cleanup.files.folder import Folder
from consumers.cleanup.files.manifest import ManifestUnusable
from consumers.cleanup.files.static_files import UnreferencedFiles, original_of
from consumers.cleanup.files.sweep import Sweep
from pocketwatch.errors import Reject

NOW = time.time()
CUTOFF = NOW - 30 * 86400
OLD = NOW - 40 * 86400

A, B, C = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "static"
    folder.mkdir()
    return folder


def put(path: Path, *, mtime: float = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
    os.utime(path, (mtime, mtime))
    return path


def release(root: Path, *, mtime: float = NOW, **changes: Any) -> Path:
    """A release of one stylesheet, whose version is `b…`; the older one, `a…`, is left."""
    for name in ("css/site.css", f"css/site.{A}.css", f"css/site.{B}.css"):
        put(root / name)
    whole = {"paths": {"css/site.css": f"css/site.{B}.css"}, "version": "1.1", "hash": "0"} | changes
    path = root / "staticfiles.json"
    path.write_text(json.dumps(whole))
    os.utime(path, (mtime, mtime))
    return path


def names(root: Path, **paths: str) -> None:
    release(root, paths={"css/site.css": f"css/site.{B}.css"} | paths)


def sweep(root: Path, **changes: Any) -> Sweep:
    return Sweep(root=root, older_than=CUTOFF, rule=partial(UnreferencedFiles, older_than=CUTOFF), **changes)


def deleted(root: Path) -> set[str]:
    before = left(root)
    sweep(root).delete()
    return before - left(root)


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_only_old_unnamed_version_is_deleted(root: Path):
    release(root)

    counters = sweep(root).delete()

    assert left(root) == {"css", "css/site.css", f"css/site.{B}.css", "staticfiles.json"}
    assert counters.statistics() == {
        "files_seen": 4,
        "files_deleted": 1,
        "bytes_freed": 10,
        "directories_removed": 0,
        "errors": 0,
        "named": 2,
    }


def test_survey_counts_the_same_and_changes_nothing(root: Path):
    release(root)
    put(root / f"css/site.{A}.css.gz")
    put(root / f"css/site.{B}.css.gz")
    before = left(root)

    counted = sweep(root).survey().statistics()

    assert left(root) == before
    assert counted == sweep(root).delete().statistics()
    assert counted["files_deleted"] == 2


def test_version_newer_than_the_retention_is_kept(root: Path):
    release(root)
    os.utime(root / f"css/site.{A}.css", (CUTOFF, CUTOFF))

    assert deleted(root) == set()


def test_version_newer_than_the_manifest_is_kept(root: Path):
    release(root, mtime=OLD)
    put(root / f"css/site.{C}.css", mtime=OLD + 1)

    assert deleted(root) == {f"css/site.{A}.css"}


def test_originals_unknown_files_and_folders_are_kept(root: Path):
    release(root)
    for name in ("css/dropped.css", "robots.txt", "css/site.css.map", f"deep/{A}/x.css", f"css/site.{A}.css.bak"):
        put(root / name, mtime=1)
    (root / "empty").mkdir()
    os.utime(root / "empty", (1, 1))

    assert deleted(root) == {f"css/site.{A}.css"}


@pytest.mark.parametrize(
    ("original", "version"),
    [
        ("jquery.min.js", f"jquery.min.{A}.js"),
        ("site.css.map", f"site.css.{A}.map"),
        ("LICENSE", f"LICENSE.{A}"),
        (".htaccess", f".htaccess.{A}"),
        ("archive.tar.gz", f"archive.tar.{A}.gz"),
        (f"main.{B}.js", f"main.{B}.{A}.js"),
        ("фото 1.jpg", f"фото 1.{A}.jpg"),
    ],
)
def test_versions_are_recognised_by_djangos_naming(root: Path, original: str, version: str):
    assert original_of(version) == original
    release(root)
    put(root / original)
    put(root / version)

    assert deleted(root) == {version, f"css/site.{A}.css"}


@pytest.mark.parametrize(
    "name",
    [
        "site.css",
        f"site.{A[:11]}.css",
        f"site.{A}a.css",
        f"site.{A.upper()}.css",
        f"site-{A}.css",
        f"{A}.css",
        f".{A}.css",
        f"site.{A}.min.css",
        f"jquery.min.{A}",
        "site.gggggggggggg.css",
        f"site.{A}_Xy12345.css",
    ],
)
def test_other_names_are_not_versions(name: str):
    assert original_of(name) is None


def test_chunk_hashed_by_a_bundler_is_kept(root: Path):
    chunk = f"js/main.{A}.js"
    names(root, **{chunk: f"js/main.{A}.{B}.js"})
    for name in (chunk, f"js/main.{A}.{B}.js", f"js/main.{A}.{C}.js"):
        put(root / name)
    put(root / f"js/lonely.{C}.js")  # no original, in no manifest: Django has not made it

    assert deleted(root) == {f"css/site.{A}.css", f"js/main.{A}.{C}.js"}


def test_version_of_a_dropped_original_is_deleted_while_the_original_exists(root: Path):
    release(root)
    put(root / "css/dropped.css")
    put(root / f"css/dropped.{A}.css")
    (root / "css/linked.css").symlink_to("/nowhere/linked.css")  # as collectstatic --link leaves it
    put(root / f"css/linked.{A}.css")

    assert deleted(root) == {f"css/site.{A}.css", f"css/dropped.{A}.css", f"css/linked.{A}.css"}


def test_version_is_deleted_where_originals_are_not_kept(root: Path):
    release(root)
    (root / "css/site.css").unlink()

    assert deleted(root) == {f"css/site.{A}.css"}


def test_compressed_forms_are_kept_or_deleted_with_their_file(root: Path):
    release(root)
    for suffix in ("gz", "br", "zst"):
        for name in ("site.css", f"site.{A}.css", f"site.{B}.css"):
            put(root / f"css/{name}.{suffix}")

    assert deleted(root) == {f"css/site.{A}.css{suffix}" for suffix in ("", ".gz", ".br", ".zst")}


def test_compressed_form_is_not_deleted_before_its_file(root: Path):
    release(root)
    put(root / f"css/site.{A}.css", mtime=NOW - 1)
    put(root / f"css/site.{A}.css.gz")
    put(root / f"css/site.{C}.css.gz")

    assert deleted(root) == {f"css/site.{C}.css.gz"}


def test_temporary_files_of_a_killed_run_follow_the_same_rule(root: Path):
    release(root)
    put(root / f"css/site.{C}.css.gz.77.pocketwatch")
    put(root / f"css/site.{B}.css.78.pocketwatch")

    assert deleted(root) == {f"css/site.{A}.css", f"css/site.{C}.css.gz.77.pocketwatch"}


def test_manifest_below_the_root_is_ignored(root: Path):
    release(root)
    put(root / "vendor/staticfiles.json").write_text('{"paths": {"css/site.css": "css/site.aaaaaaaaaaaa.css"}}')

    assert deleted(root) == {f"css/site.{A}.css"}


def descriptors_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def refused(root: Path, kind: type[Exception]) -> str:
    before = left(root)
    descriptors = descriptors_open()
    with pytest.raises(kind) as caught:
        sweep(root).delete()
    assert caught.type is kind
    assert left(root) == before
    assert descriptors_open() == descriptors
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty; is a release being deployed"),
        (b'{"paths": {"css/site.css": "css/si', "not JSON (Unterminated string"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"version": "1.1", "paths": ' + b"9" * 5000, "not JSON"),
    ],
)
def test_half_written_manifest_is_retried(root: Path, content: bytes, words: str):
    release(root).write_bytes(content)

    error = refused(root, ManifestUnusable)

    assert f'manifest "{root}/staticfiles.json": {words}' in error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"version": "1.1"}', 'names no file; "paths" must be an object that is not empty'),
        ('{"version": "1.1", "paths": {}}', "names no file"),
        ('{"version": "1.1", "paths": ["css/site.css"]}', "names no file"),
        ('{"version": "2.0", "paths": {"a": "b"}}', 'version "2.0"; supported are 1.0 and 1.1'),
        ('{"version": 1.1, "paths": {"a": "b"}}', "version 1.1; supported are"),
        ('{"paths": {"a": "b"}}', "version null"),
    ],
)
def test_wrong_manifest_is_rejected(root: Path, content: str, words: str):
    release(root).write_text(content)

    assert f'manifest "{root}/staticfiles.json": {words}' in refused(root, Reject)


def test_manifest_with_other_values_than_strings_is_rejected(root: Path):
    release(root, paths={"css/site.css": None})

    assert "must give the name of a hashed file for each file" in refused(root, Reject)


@pytest.mark.parametrize("name", ["../precious/site.css", "css/../../precious/site.css", "/etc/hostname"])
def test_manifest_that_names_files_outside_is_rejected(root: Path, name: str):
    for paths in ({"css/site.css": name}, {name: "css/site.css"}):
        release(root, paths=paths)

        assert "names files outside its folder" in refused(root, Reject)


@pytest.mark.parametrize("name", ["nul\0", "\ud800", "l" * 5000])
def test_names_in_the_manifest_that_no_file_can_have_change_nothing(root: Path, name: str):
    names(root, **{name: name})

    assert deleted(root) == {f"css/site.{A}.css"}


def test_missing_manifest_is_retried(root: Path):
    release(root).unlink()

    error = refused(root, ManifestUnusable)

    assert f'manifest "{root}/staticfiles.json": missing, so nothing may be deleted' in error


def test_manifest_that_is_not_a_file_is_rejected(root: Path):
    path = release(root)
    path.rename(root / "elsewhere.json")
    path.symlink_to("elsewhere.json")
    assert "a symbolic link or not a file; put the file itself there" in refused(root, Reject)

    path.unlink()
    os.mkfifo(path)
    assert "a symbolic link or not a file" in refused(root, Reject)

    path.unlink()
    path.mkdir()
    assert "a symbolic link or not a file" in refused(root, Reject)


def test_too_large_manifest_is_rejected(root: Path, monkeypatch: pytest.MonkeyPatch):
    release(root)
    monkeypatch.setattr(manifest, "MAX_SIZE", 20)

    assert "bytes, more than 20" in refused(root, Reject)


def test_manifest_of_another_folder_is_refused(root: Path):
    release(root, paths={"static/css/site.css": f"static/css/site.{B}.css"})

    assert "names no file that exists; it belongs to another folder" in refused(root, ManifestUnusable)


def test_older_manifest_version_is_accepted(root: Path):
    release(root, version="1.0")

    assert deleted(root) == {f"css/site.{A}.css"}


def deploy_before_the_first_deletion(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Do something once, after the scan and before the first file is deleted."""
    delete, once = safe_delete.delete, threading.Lock()

    def deploy_first(folder: int, name: str, precondition: safe_delete.Precondition) -> bool:
        if once.acquire(blocking=False):
            act()
        return delete(folder, name, precondition)

    monkeypatch.setattr(safe_delete, "delete", deploy_first)


def test_version_that_a_newer_release_uses_again_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch):
    path = release(root)
    for suffix in (".gz", ".br"):
        put(root / f"css/site.{A}.css{suffix}")
    put(root / f"css/site.{C}.css")

    def roll_back() -> None:
        new = root / "new.json"
        new.write_text(path.read_text().replace(B, A))
        new.replace(path)

    deploy_before_the_first_deletion(monkeypatch, roll_back)

    assert deleted(root) == {f"css/site.{C}.css"}
    assert (root / f"css/site.{B}.css").exists()  # named when the pass began


def test_files_of_both_releases_are_kept_when_one_is_deployed_during_the_scan(root: Path):
    path = release(root)
    descriptor = os.open(root, os.O_RDONLY)
    folder = Folder(None, str(root), descriptor, older_than=CUTOFF)
    rule = UnreferencedFiles(folder, older_than=CUTOFF)
    old = put(root / f"site.{A}.css")
    put(root / "site.css")
    condition = rule.may_delete(folder, old.name, old.stat())
    assert condition is not None
    assert condition()

    path.write_text(path.read_text().replace("css/site", "site").replace(B, A))

    assert not condition()
    rule.statistics["named"] = 0
    below = Folder(folder, "css", os.open(root / "css", os.O_RDONLY), older_than=CUTOFF)
    named = root / f"css/site.{B}.css"
    assert rule.may_delete(below, named.name, named.stat()) is None
    assert rule.statistics["named"] == 1
    for opened in (descriptor, below.descriptor):
        os.close(opened)


def test_rollback_during_the_deletion_restores_the_file(root: Path, monkeypatch: pytest.MonkeyPatch):
    path = release(root)
    rename = os.rename

    def roll_back_then(source: str, target: str, **folders: int) -> None:
        rename(source, target, **folders)
        path.write_text(path.read_text().replace(B, A))

    monkeypatch.setattr(os, "rename", roll_back_then)

    assert deleted(root) == set()


def test_version_that_a_deployment_rewrites_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch):
    release(root)
    version = root / f"css/site.{A}.css"

    def rewrite() -> None:  # as Django does: deleted, saved
        version.unlink()
        version.write_text("rewritten")

    deploy_before_the_first_deletion(monkeypatch, rewrite)

    assert deleted(root) == set()
    assert version.read_text() == "rewritten"


def test_manifest_that_vanishes_stops_the_sweep(root: Path, monkeypatch: pytest.MonkeyPatch):
    path = release(root)
    for n in range(200):
        put(root / f"{n % 20}/x.css")
        put(root / f"{n % 20}/x.{n:012x}.css")
    before = left(root)
    descriptors = descriptors_open()
    deploy_before_the_first_deletion(monkeypatch, path.unlink)

    with pytest.raises(ManifestUnusable, match="missing"):
        sweep(root).delete()

    assert before - left(root) == {"staticfiles.json"}
    assert descriptors_open() == descriptors


def test_root_that_is_a_link_is_refused(root: Path, tmp_path: Path):
    release(root)
    (tmp_path / "link").symlink_to(root)

    with pytest.raises(Exception, match="a symbolic link or not a folder"):
        sweep(tmp_path / "link").delete()


def test_link_to_an_old_version_is_neither_followed_nor_deleted(root: Path, tmp_path: Path):
    release(root)
    outside = put(tmp_path / f"outside/site.{C}.css")
    (root / f"css/site.{C}.css").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)

    assert deleted(root) == {f"css/site.{A}.css"}
    assert outside.exists()


def test_sweep_of_static_files_can_be_stopped(root: Path):
    release(root)
    for n in range(500):
        put(root / f"css/site.{n:012x}.css")
    counters = SweepCounters()

    sweep(root, stop=lambda: counters.expected is not None).delete(counters)  # after the survey

    assert counters.stopped
    assert 0 < counters.files_deleted < 500


def test_compressed_form_of_a_named_version_is_kept(root: Path):
    release(root)
    path = root / f"css/site.{B}.css"
    (root / f"css/site.{B}.css.gz").write_bytes(gzip.compress(path.read_bytes()))
    os.utime(root / f"css/site.{B}.css.gz", (1, 1))

    assert deleted(root) == {f"css/site.{A}.css"}
