"""Write the samples of all emails, in every language, to files."""

from pathlib import Path

from jinja2 import Environment, PackageLoader

from consumers.mail.compose import images, mime, samples
from consumers.mail.compose.headers import message_id
from consumers.mail.compose.rendering import EmailRenderer, RenderedEmail
from schemas.emails import Email
from schemas.locale import LOCALES


def write_preview(folder: Path) -> int:
    """Write text, HTML and message of each email, and an index; return the number of emails."""
    renderer = EmailRenderer(samples.SITE, samples.TIMEZONE)
    folder.mkdir(parents=True, exist_ok=True)
    emails = [_write(folder, renderer, email, locale) for email in samples.SAMPLES for locale in LOCALES]
    environment = Environment(loader=PackageLoader("templates", "."), autoescape=True, trim_blocks=True)
    index = environment.get_template("preview.html").render(emails=emails)
    (folder / "index.html").write_text(index, encoding="utf-8")
    return len(emails)


def _write(folder: Path, renderer: EmailRenderer, email: Email, locale: str) -> dict[str, str]:
    unsubscribe_url = samples.UNSUBSCRIBE if email.subscribed else None
    rendered = renderer.render(email, locale, unsubscribe_url=unsubscribe_url)
    stem = f"{email.name}.{locale}"
    (folder / f"{stem}.txt").write_text(f"{rendered.subject}\n\n{rendered.text}", encoding="utf-8")
    (folder / f"{stem}.html").write_text(
        images.inline(rendered.html, images.images_of(email, rendered.locale)), encoding="utf-8"
    )
    (folder / f"{stem}.eml").write_bytes(_message(email, rendered, stem, unsubscribe_url))
    return {"name": email.name, "locale": locale, "stem": stem, "subject": rendered.subject}


def _message(email: Email, rendered: RenderedEmail, stem: str, unsubscribe_url: str | None) -> bytes:
    return mime.build(
        rendered,
        sender=samples.SITE.sender,
        to=samples.RECIPIENT,
        message_id=message_id(stem, "cars.example"),
        date=samples.AT,
        unsubscribe_url=unsubscribe_url,
        attachments=images.images_of(email, rendered.locale),
    )
