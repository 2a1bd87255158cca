"""The generator of `make new-job`: which names it refuses, what it calls things, and that it writes all or nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from pocketwatch.errors import PocketwatchError
from scaffold import new_job
from scaffold.new_job import NewJob, named, with_block, with_line, write


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project."""
    monkeypatch.setattr(new_job, "PROJECT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "not a group and a verb"),
        ("Views", "not a group and a verb"),
        ("views", "not a group and a verb"),
        ("Views.purge", "not a group and a verb"),
        ("views.purge.all", "not a group and a verb"),
        ("ad_views.purge", "not a group and a verb"),  # no name of a deployment has an underscore
        ("views.purge_", "not a group and a verb"),
        ("../views.purge", "not a group and a verb"),
        ("views.purge\n", "not a group and a verb"),
        ("вид.purge", "not a group and a verb"),
        ("views.import", '"import" is a keyword of Python; choose another word'),
        ("class.purge", '"class" is a keyword of Python; choose another word'),
        ("app.purge", '"app" has another meaning; choose another group, or one of analytics, '),
        ("publishers.purge", '"publishers" has another meaning'),
        ("celery.purge", '"celery" has another meaning'),
        ("wait.purge", '"wait" has another meaning'),
        ("views.queries", '"queries" is a module with another meaning in each group; choose another verb'),
        ("rates.update", "exists already; choose another verb"),
        ("mail.delivery", "exists already; choose another verb"),
        ("rates.fetch", "consumers/rates/fetch.py exists already; choose another verb"),
        ("cleanup.files", "consumers/cleanup/files exists already; choose another verb"),
        ("ads.archive", "its message would be ArchiveAds, which exists already; choose another verb"),
        (f"views.{'x' * 27}", "longer than 32 characters; shorten it"),
    ],
)
def test_name_is_refused(name: str, reason: str):
    with pytest.raises(PocketwatchError) as caught:
        named(name)

    assert str(caught.value).startswith(f'NAME "{name}": {reason}')


@pytest.mark.parametrize(
    ("job", "message", "handler", "entry"),
    [
        (NewJob("views", "purge"), "PurgeViews", "purge_views", "purge-views-daily"),
        (NewJob("maintenance", "archive_ads"), "ArchiveAds", "archive_ads", "archive-ads-daily"),
    ],
)
def test_message_handler_and_entry_are_called_as_by_hand(job: NewJob, message: str, handler: str, entry: str):
    assert (job.message, job.handler, job.entry) == (message, handler, entry)


@pytest.mark.parametrize("job", [NewJob("a", "b"), NewJob("views", "x" * 26), NewJob("v", f"{'x' * 15}_{'y' * 14}")])
@pytest.mark.parametrize("template", ["message", "handler", "queries", "privileges", "test"])
def test_code_is_formatted_whatever_the_length_of_the_name(job: NewJob, template: str):
    ruff = Path(sys.executable).with_name("ruff")
    text = job.fill_in(template)

    done = subprocess.run([ruff, "format", "-"], input=text, capture_output=True, text=True, check=True)

    assert done.stdout == text
    assert max(map(len, text.splitlines())) <= 120


def test_block_is_added_after_those_of_its_group(folder: Path):
    (folder / "file").write_text("1 = a.b\n\n2 = a.c\n\n3 = b.d\n")

    assert with_block("file", "4 = a.e\n", beside=["a."], gap=2) == "1 = a.b\n\n2 = a.c\n\n4 = a.e\n\n3 = b.d\n"
    assert with_block("file", "4 = c.e\n", beside=["c.", "= "], gap=2) == "1 = a.b\n\n2 = a.c\n\n3 = b.d\n\n4 = c.e\n"
    with pytest.raises(PocketwatchError, match=r'file: contains no "c\." after which to add'):
        with_block("file", "4", beside=["c."], gap=2)


@pytest.mark.parametrize(("group", "position"), [("a", 1), ("c", 2), ("z", 3)])
def test_line_is_added_in_order(folder: Path, group: str, position: int):
    (folder / "file").write_text("list:\n  - consumer-b\n  - consumer-d\nother:\n")

    assert with_line("file", f"  - consumer-{group}").splitlines()[position] == f"  - consumer-{group}"


def test_nothing_is_written_when_one_file_cannot_be(folder: Path):
    (folder / "changed").write_text("before")
    (folder / "file").touch()

    with pytest.raises(OSError, match="file"):
        write({"changed": "after", "new/folder/file": "new", "file/below": "not possible"})

    assert sorted(folder.rglob("*")) == [folder / "changed", folder / "file"]
    assert (folder / "changed").read_text() == "before"
