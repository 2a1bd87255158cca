"""`mail preview`: all letters in files, for somebody who wants to look at them."""

from email.parser import BytesParser
from email.policy import default

import pytest
import typer
from typer.testing import CliRunner

from consumers.mail.preview import preview
from pocketwatch.errors import PocketwatchError
from schemas.emails import LETTERS
from schemas.locale import LOCALES


@pytest.fixture
def command():
    app = typer.Typer()
    app.command()(preview)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_every_letter_is_there_in_every_language_and_every_form(command, tmp_path):
    folder = tmp_path / "new" / "letters"

    result = command(str(folder))

    stems = [f"{name}.{locale}" for name in LETTERS for locale in LOCALES]
    assert result.exit_code == 0
    assert str(folder / "index.html") in result.output
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        *(f"{stem}.{form}" for stem in stems for form in ("txt", "html", "eml")),
    }
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{stem}.html"' in index for stem in stems)


def test_the_message_is_the_letter_that_the_other_files_show(command, tmp_path):
    command(str(tmp_path))

    with (tmp_path / "manager_digest.uk.eml").open("rb") as file:
        message = BytesParser(policy=default).parse(file)
    assert not message.defects
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message.get_body(("html",)).get_content().splitlines() == (
        (tmp_path / "manager_digest.uk.html").read_text(encoding="utf-8").splitlines()
    )
    subject = (tmp_path / "manager_digest.uk.txt").read_text(encoding="utf-8").splitlines()[0]
    assert message["Subject"] == subject


def test_without_a_folder_the_files_are_below_the_current_one(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert command().exit_code == 0
    assert (tmp_path / "letters-preview" / "index.html").is_file()


def test_a_second_look_replaces_the_first(command, tmp_path):
    command(str(tmp_path))
    (tmp_path / "plain.uk.txt").write_text("old")

    assert command(str(tmp_path)).exit_code == 0
    assert (tmp_path / "plain.uk.txt").read_text(encoding="utf-8") != "old"


def test_a_folder_that_cannot_be_written_to_is_named(command, tmp_path):
    (tmp_path / "file").write_text("")

    result = command(str(tmp_path / "file"))

    assert isinstance(result.exception, PocketwatchError)
    assert str(tmp_path / "file") in str(result.exception)
