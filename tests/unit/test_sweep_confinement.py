"""A sweep stays below its root and within what its survey allowed, whatever other processes do meanwhile."""

import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from console.checks.installation import check_folders
from consumers.cleanup.files.deleter import THREADS
from consumers.cleanup.files.folder import RootUnusable, mount_of, readable
from consumers.cleanup.files.log_files import Rotated
from consumers.cleanup.files.static_files import UnreferencedFiles
from consumers.cleanup.files.sweep import SHARE_APPLIES_ABOVE, Sweep, TreeSweeper
from pocketwatch.errors import Reject
from pocketwatch.settings import load

PROJECT = Path(__file__).parents[2]
NOW = time.time()
OLD = NOW - 100 * 86400
CUTOFF = NOW - 86400

SWEEP = """
import json, sys
from pathlib import Path
from consumers.cleanup.files.sweep import Sweep
counters = Sweep(root=Path(sys.argv[1]), older_than=float(sys.argv[2])).delete()
print(json.dumps(counters.statistics() | {"examples": counters.examples}))
"""


def put(path: Path, *, mtime: float = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (mtime, mtime))
    return path


def fill(folder: Path, count: int, *, mtime: float = OLD) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        descriptor = os.open(folder / f"{number}", os.O_CREAT | os.O_WRONLY)
        os.utime(descriptor, (mtime, mtime))
        os.close(descriptor)
    return folder


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def media(root: Path, **changes: Any) -> Sweep:
    return Sweep(root=root, older_than=CUTOFF, **changes)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def swept(root: Path, *, script: str, launcher: list[str]) -> dict[str, Any]:
    """What a sweep of this root, in a process of its own, has done; the shell script runs `"$@"` for it."""
    program = [*launcher, "sh", "-c", script, "sh", sys.executable, "-c", SWEEP, str(root), str(CUTOFF)]
    environment = os.environ | {"ROOT": str(root)}
    done = subprocess.run(program, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def namespace() -> list[str] | None:
    """How to start a program that may mount, and leaves nothing mounted; None where that is not allowed."""
    for user in ([], ["--map-root-user"]):
        launcher = ["unshare", "--mount", *user]
        if subprocess.run([*launcher, "mount", "--bind", "/dev", "/dev"], capture_output=True).returncode == 0:  # noqa: PLW1510  it may fail
            return launcher
    return None


MOUNTS = """
mount -t tmpfs tmpfs "$ROOT/disk" && touch -d "200 days ago" "$ROOT/disk/theirs"
mount --bind "$ROOT/../precious" "$ROOT/bound"
mount --bind "$ROOT/../precious/book" "$ROOT/bound.jpg"
mount --bind "$ROOT/self.jpg" "$ROOT/self.jpg"
mount --bind "$ROOT/disk/theirs" "$ROOT/other.jpg"
exec "$@"
"""


def test_mounts_below_the_root_are_left_alone(root: Path, tmp_path: Path):
    put(tmp_path / "precious/book")
    put(tmp_path / "precious/shelf/book")
    for name in ("a.jpg", "bound.jpg", "self.jpg", "other.jpg"):
        put(root / name)
    for name in ("disk", "bound"):
        (root / name).mkdir()
    if (launcher := namespace()) is None:
        assert media(Path("/dev")).survey().mounts_skipped > 0  # such as /dev/shm, which every machine has
        return

    counters = swept(root, script=f"set -e {MOUNTS}", launcher=launcher)

    assert left(tmp_path / "precious") == {"book", "shelf", "shelf/book"}
    assert left(root) == {"bound.jpg", "self.jpg", "other.jpg", "disk", "bound"}
    assert (counters["files_deleted"], counters["mounts_skipped"]) == (1, 5)
    assert (counters["errors"], counters["examples"]) == (0, [])


def test_mounts_of_a_machine_are_distinguished():
    descriptors = [os.open(path, os.O_RDONLY) for path in ("/", "/proc", "/proc/self")]

    mounts = [mount_of(descriptor) for descriptor in descriptors]

    assert mounts[0] != mounts[1] == mounts[2]
    for descriptor in descriptors:
        os.close(descriptor)


def when_unlinking(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> None:
    """Act right before the file of this number is unlinked, after its last check."""
    unlink, lock, calls = os.unlink, threading.Lock(), iter(range(10**6))

    def unlink_after_the_act(name: str, **options: Any) -> None:
        with lock:
            if next(calls) == number:
                act()
        unlink(name, **options)

    monkeypatch.setattr(os, "unlink", unlink_after_the_act)


@pytest.mark.parametrize("moved", ["a/b/c", "a"])
def test_folder_moved_out_of_the_root_is_not_emptied(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: str
):
    fill(root / "a/b/c", 1000)
    when_unlinking(monkeypatch, 100, lambda: (root / moved).rename(tmp_path / "moved"))

    counters = media(root).delete()

    rest = [path for path in (tmp_path / "moved").rglob("*") if path.is_file()]
    assert counters.files_deleted == 1000 - len(rest)
    assert 100 < counters.files_deleted <= 100 + THREADS
    assert counters.errors == 0


def test_folder_in_the_place_of_another_keeps_its_files_and_both_are_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fill(root / "d", 1000)
    fill(tmp_path / "new", 10, mtime=NOW)

    def replace() -> None:
        (root / "d").rename(tmp_path / "moved")
        (tmp_path / "new").rename(root / "d")

    when_unlinking(monkeypatch, 100, replace)
    counters = media(root).delete()

    assert len(left(root / "d")) == 10
    assert len(left(tmp_path / "moved")) >= 900 - THREADS
    assert counters.errors > 0
    assert re.fullmatch(r"d/\d+: its folder was moved, replaced or covered .*", counters.examples[0])


def test_emptied_folder_that_was_moved_out_is_not_removed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(root / "d/sub/file")
    when_unlinking(monkeypatch, 0, lambda: (root / "d").rename(tmp_path / "moved"))

    media(root).delete()

    assert left(tmp_path / "moved") == {"sub"}


def before_deleting(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act between the survey and the deletion."""
    run, passes = TreeSweeper.run, iter((False, True))

    def run_after_the_act(self: TreeSweeper) -> Any:
        if next(passes):
            act()
        return run(self)

    monkeypatch.setattr(TreeSweeper, "run", run_after_the_act)


def test_root_replaced_after_the_survey_loses_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(root / "d", 10)
    fill(tmp_path / "other", 30)

    def replace() -> None:
        root.rename(tmp_path / "moved")
        (tmp_path / "other").rename(root)

    before_deleting(monkeypatch, replace)
    with pytest.raises(RootUnusable, match=r"root .*: moved, replaced or covered by a mount during the run"):
        media(root).delete()

    assert (len(left(root)), len(left(tmp_path / "moved"))) == (30, 11)


def test_root_moved_while_its_files_are_deleted_is_not_emptied(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fill(root, 1000)
    when_unlinking(monkeypatch, 100, lambda: root.rename(tmp_path / "moved"))

    with pytest.raises(RootUnusable, match="moved, replaced or covered by a mount during the run"):
        media(root).delete()

    assert len(left(tmp_path / "moved")) >= 900 - THREADS


def test_root_deleted_during_the_survey_does_not_look_clean(root: Path, monkeypatch: pytest.MonkeyPatch):
    run = TreeSweeper.run

    def delete_first(self: TreeSweeper) -> Any:
        root.rmdir()
        return run(self)

    monkeypatch.setattr(TreeSweeper, "run", delete_first)
    with pytest.raises(RootUnusable, match="moved, replaced or covered by a mount during the run"):
        media(root).survey()


def test_no_more_is_deleted_than_the_survey_allowed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(root / "kept", 1500, mtime=NOW)
    fill(root / "old", 500)
    fill(tmp_path / "restored", 2000)
    before_deleting(monkeypatch, lambda: (tmp_path / "restored").rename(root / "restored"))

    counters = media(root, max_share=0.6).delete()

    assert counters.files_deleted == counters.limit == 1200
    assert (counters.limit_reached, counters.expected) == (True, 2000)
    assert sum(path.is_file() for path in root.rglob("*")) == 4000 - 1200


def test_few_files_limit_the_deletion_too(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(root / "old")
    fill(tmp_path / "restored", SHARE_APPLIES_ABOVE + 200)
    before_deleting(monkeypatch, lambda: (tmp_path / "restored").rename(root / "restored"))

    assert media(root).delete().files_deleted == SHARE_APPLIES_ABOVE


def test_share_is_checked_before_the_first_deletion(root: Path):
    fill(root, SHARE_APPLIES_ABOVE + 1)

    with pytest.raises(Reject, match="1001 of 1001 files are old"):
        media(root, max_share=0.5).delete()

    assert len(left(root)) == SHARE_APPLIES_ABOVE + 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"\xd4\xee\xf2\xee", r"\xd4\xee\xf2\xee"),  # cp1251
        (b"line\nbreak\x1b[31m", r"line\nbreak\x1b[31m"),
        ("ab\u202egpj.exe".encode(), r"ab\u202egpj.exe"),  # turns the rest around
        ("фото 1.jpg".encode(), "фото 1.jpg"),
        (b"[red]$(touch x)", "[red]$(touch x)"),
    ],
)
def test_names_are_shown_as_text(root: Path, monkeypatch: pytest.MonkeyPatch, name: bytes, shown: str):
    put(root / os.fsdecode(name) / "file")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    counters = media(root).delete()

    assert counters.examples == [f"{shown}/file: Permission denied"]


def test_root_is_shown_as_text(tmp_path: Path):
    with pytest.raises(RootUnusable, match=re.escape(r"caf\xe9\n")):
        media(tmp_path / os.fsdecode(b"caf\xe9\n")).survey()


def test_long_path_is_cut_in_an_error():
    assert len(readable("d/" * 5000)) == 300


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EROFS, errno.EBUSY])
def test_error_of_the_disk_is_named_and_the_others_are_deleted(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    fill(root, 10)
    unlink = os.unlink

    def fail_once(name: str, **options: Any) -> None:
        if name == "7":
            raise OSError(number, os.strerror(number))
        unlink(name, **options)

    monkeypatch.setattr(os, "unlink", fail_once)
    counters = media(root).delete()

    assert (counters.files_deleted, counters.errors) == (9, 1)
    assert counters.examples == [f"7: {os.strerror(number)}"]


def test_folder_that_cannot_be_read_is_named_and_the_others_are_swept(root: Path):
    put(root / "locked/inner")
    put(root / "read_only/inner")
    put(root / "open/file")
    (root / "locked").chmod(0)
    (root / "read_only").chmod(0o555)
    rights = "-dac_override,-dac_read_search"
    without_rights = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []

    counters = swept(root, script='exec "$@"', launcher=without_rights)

    for name in ("locked", "read_only"):
        (root / name).chmod(0o755)
    assert left(root) == {"locked", "locked/inner", "read_only", "read_only/inner"}
    assert (counters["files_deleted"], counters["errors"]) == (1, 2)
    assert sorted(counters["examples"]) == ["locked/: Permission denied", "read_only/inner: Permission denied"]


def test_home_and_what_contains_it_are_no_root(root: Path, monkeypatch: pytest.MonkeyPatch):
    home = put(root / "home/.ssh/key").parents[1]
    monkeypatch.setenv("HOME", str(home))

    for folder in (Path("/"), root, home, home / "../home"):
        with pytest.raises(Reject, match=r'root ".*": contains the home directory; name a folder of its own'):
            media(folder).survey()
    assert media(home / ".ssh").survey().files_deleted == 1


ELSEWHERE = "which is not mounted here; it must be where a consumer of cleanup runs"
DOCTOR = """
import asyncio, json, sys
from console.checks.installation import check_folders
from pocketwatch.settings import load
async def check():
    return [(finding.result, finding.detail) async for finding in check_folders(load())]
print(json.dumps(asyncio.run(check())))
"""


def folder_findings(root: Path, *, launcher: tuple[str, ...] = ()) -> list[list[str]]:
    """What `doctor` says of the three roots: one is a link, one is missing, one is there."""
    (root / "media").symlink_to(root)
    (root / "logs").mkdir()
    names = {"MEDIA": "media", "STATIC": "missing", "LOG": "logs"}
    environment = os.environ | {f"POCKETWATCH_{key}_ROOT": str(root / name) for key, name in names.items()}
    program = [*launcher, sys.executable, "-c", DOCTOR]
    environment["PYTHONPATH"] = str(PROJECT)
    done = subprocess.run(program, cwd=root, env=environment, capture_output=True, text=True, check=True)
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_doctor_says_where_a_folder_must_be_that_is_not_here(root: Path):
    assert folder_findings(root) == [
        ["problem", f'POCKETWATCH_MEDIA_ROOT is "{root}/media", which is not a folder'],
        ["warning", f'POCKETWATCH_STATIC_ROOT is "{root}/missing", {ELSEWHERE}'],
        ["ok", f"{root}/logs is writable"],
    ]


def test_doctor_in_a_container_without_volumes_finds_no_problem_with_folders(root: Path):
    if (launcher := namespace()) is None:
        return  # the test above shows a folder that is missing
    read_only = (*launcher, "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"', "sh")

    _, _, (result, detail) = folder_findings(root, launcher=read_only)

    assert (result, detail) == ("warning", f'POCKETWATCH_LOG_ROOT is "{root}/logs", {ELSEWHERE}')


def test_doctor_finds_a_problem_with_a_volume_that_is_mounted_read_only(root: Path):
    if (launcher := namespace()) is None:
        return
    script = 'mount -t tmpfs -o ro tmpfs "$1/logs" && mount -o remount,bind,ro / && shift && exec "$@"'

    _, _, found = folder_findings(root, launcher=(*launcher, "sh", "-c", script, "sh", str(root)))

    assert found == ["problem", f"{root}/logs is not writable"]


async def test_doctor_names_a_root_that_contains_the_home_directory(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(root))

    findings = [finding async for finding in check_folders(load({"POCKETWATCH_MEDIA_ROOT": str(root)}, folder=root))]

    assert findings[0].result == "problem"
    assert "contains the home directory" in findings[0].detail


def test_root_of_another_job_is_not_entered(root: Path, tmp_path: Path):
    put(root / "old")
    put(root / "static/css/site.css")
    (tmp_path / "link").symlink_to(root / "static")

    counters = media(root, others=(None, tmp_path / "missing", tmp_path / "link")).delete()

    assert left(root) == {"static", "static/css", "static/css/site.css"}
    assert (counters.files_seen, counters.errors) == (1, 0)


def test_root_of_two_jobs_is_refused(root: Path):
    put(root / "old")

    with pytest.raises(Reject, match=r'root ".*": the root of another clean-up too; name one for each'):
        media(root, others=(root / "../root",)).delete()

    assert left(root) == {"old"}


def test_longest_names_are_deleted(root: Path):
    logs = [put(root / f"logs/{'l' * 240}.log.{number}", mtime=OLD - number) for number in range(1, 3)]
    version = put(root / f"static/{'n' * 226}.0123456789ab.css")
    original = put(root / f"static/{'n' * 226}.css")
    manifest = {"version": "1.1", "paths": {original.name: f"{'n' * 226}.ffffffffffff.css"}}
    (root / "static/staticfiles.json").write_text(json.dumps(manifest))

    swept = [
        Sweep(root=root / "logs", older_than=CUTOFF, rule=lambda _: Rotated(older_than=CUTOFF)).delete(),
        Sweep(root=root / "static", older_than=CUTOFF, rule=partial(UnreferencedFiles, older_than=CUTOFF)).delete(),
    ]

    assert [(counters.files_deleted, counters.errors) for counters in swept] == [(1, 0), (1, 0)]
    assert [path.exists() for path in (*logs, version, original)] == [True, False, False, True]
