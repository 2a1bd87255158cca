"""`mail preview`: what every letter looks like, in files; nothing is sent and no server is asked."""

from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Environment, PackageLoader

from consumers.mail.compose import images, mime, samples
from consumers.mail.compose.headers import message_id
from consumers.mail.compose.rendering import Emails, Rendered
from pocketwatch.errors import PocketwatchError
from pocketwatch.terminal import console
from schemas.emails import Email
from schemas.locale import LOCALES


def preview(
    folder: Annotated[Path, typer.Argument(help="Where the files go; it is made if need be.")] = Path(
        "letters-preview"
    ),
) -> None:
    """Render every letter in every language to files: text, HTML, and the message as it would be sent.

    Example: pocketwatch mail preview /tmp/letters
    """
    letters = Emails(samples.SITE, samples.TIMEZONE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = [_write(folder, letters, letter, locale) for letter in samples.SAMPLES for locale in LOCALES]
        (folder / "index.html").write_text(_index(written), encoding="utf-8")
    except OSError as error:
        raise PocketwatchError(f"the letters cannot be written to {folder}: {error}") from error
    console.print(f"{len(written)} letters; begin with {folder / 'index.html'}", soft_wrap=True, markup=False)


def _write(folder: Path, letters: Emails, letter: Email, locale: str) -> dict[str, str]:
    """The letter's three files; what the index says about them."""
    unsubscribe_url = samples.UNSUBSCRIBE if letter.subscribed else None
    rendered = letters.render(letter, locale, unsubscribe_url=unsubscribe_url)
    stem = f"{letter.name}.{locale}"
    (folder / f"{stem}.txt").write_text(f"{rendered.subject}\n\n{rendered.text}", encoding="utf-8")
    (folder / f"{stem}.html").write_text(images.inlined(rendered.html, letter), encoding="utf-8")
    (folder / f"{stem}.eml").write_bytes(_message(letter, rendered, stem, unsubscribe_url))
    return {"name": letter.name, "locale": locale, "stem": stem, "subject": rendered.subject}


def _message(letter: Email, rendered: Rendered, stem: str, unsubscribe_url: str | None) -> bytes:
    return mime.build(
        rendered,
        sender=samples.SITE.sender,
        to=samples.READER,
        message_id=message_id(stem, "cars.example"),
        date=samples.AT,
        unsubscribe_url=unsubscribe_url,
        attachments=images.of(letter),
    )


def _index(written: list[dict[str, str]]) -> str:
    environment = Environment(loader=PackageLoader("templates", "."), autoescape=True, trim_blocks=True)
    return environment.get_template("preview.html").render(letters=written)
