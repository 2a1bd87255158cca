"""`mail preview`: all emails in files."""

from email.parser import BytesParser
from email.policy import default

import pytest
import typer
from typer.testing import CliRunner

from consumers.mail.commands import preview
from pocketwatch.errors import PocketwatchError
from schemas.emails import EMAILS
from schemas.locale import LOCALES


@pytest.fixture
def command():
    app = typer.Typer()
    app.command()(preview)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_every_email_is_written_in_every_language_and_format(command, tmp_path):
    folder = tmp_path / "new" / "emails"

    result = command(str(folder))

    stems = [f"{name}.{locale}" for name in EMAILS for locale in LOCALES]
    assert result.exit_code == 0
    assert str(folder / "index.html") in result.output
    assert {path.name for path in folder.iterdir()} == {
        "index.html",
        *(f"{stem}.{form}" for stem in stems for form in ("txt", "html", "eml")),
    }
    index = (folder / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{stem}.html"' in index for stem in stems)


def test_message_has_the_content_of_the_other_files(command, tmp_path):
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


def test_default_folder_is_below_the_current_one(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert command().exit_code == 0
    assert (tmp_path / "emails-preview" / "index.html").is_file()


def test_existing_files_are_replaced(command, tmp_path):
    command(str(tmp_path))
    (tmp_path / "plain.uk.txt").write_text("old")

    assert command(str(tmp_path)).exit_code == 0
    assert (tmp_path / "plain.uk.txt").read_text(encoding="utf-8") != "old"


def test_unwritable_folder_is_named(command, tmp_path):
    (tmp_path / "file").write_text("")

    result = command(str(tmp_path / "file"))

    assert isinstance(result.exception, PocketwatchError)
    assert str(tmp_path / "file") in str(result.exception)
