"""Templates of emails: complete, and free of what emails must not contain."""

import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from consumers.mail.compose.samples import SAMPLES, UNSUBSCRIBE
from schemas.emails import EMAILS, _AdEmail
from schemas.locale import LOCALES

TEMPLATES = Path(str(files("templates")))
MAIL = TEMPLATES / "mail"


class Page(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def test_every_email_has_its_three_templates():
    folders = {folder.name for folder in MAIL.iterdir() if folder.name != "_base"}

    assert folders == set(EMAILS)
    for name in folders:
        assert {"subject.txt", "body.txt", "body.html"} <= {file.name for file in (MAIL / name).iterdir()}


def test_no_template_disables_escaping():
    files = list(TEMPLATES.rglob("*.html"))

    assert files
    for file in files:
        source = file.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", source), file


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("email", SAMPLES, ids=lambda email: email.name)
def test_html_loads_only_attached_images_and_runs_nothing(renderer, email, locale):
    html = renderer.render(email, locale, unsubscribe_url=UNSUBSCRIBE).html

    page = Page(html)

    assert not {"script", "link", "iframe", "object", "form", "video", "svg"} & set(page.tags)
    assert not re.search(r"url\(|@import|@font-face|expression\(", html)
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in {"srcset", "background", "ping"}
        assert name != "src" or (tag == "img" and value.startswith("cid:"))
        if "://" in value:
            assert (tag, name) == ("a", "href")


@pytest.mark.parametrize("email", SAMPLES, ids=lambda email: email.name)
def test_styles_are_inlined(renderer, email):
    page = Page(renderer.render(email, "uk").html)

    classes = [value for _, name, value in page.attributes if name == "class"]
    styles = [value for _, name, value in page.attributes if name == "style"]
    assert len(styles) == len(classes)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("email", SAMPLES, ids=lambda email: email.name)
def test_subject_has_at_most_sixty_characters(renderer, email, locale):
    assert len(renderer.render(email, locale).subject) <= 60


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", [name for name, email in EMAILS.items() if issubclass(email, _AdEmail)])
def test_long_title_is_truncated_in_the_subject(renderer, sample, name, locale):
    usual = renderer.render(sample(name, ad_id=12_345_678, ad_title="?"), locale).subject

    subject = renderer.render(sample(name, ad_id=12_345_678, ad_title="Дуже довга назва " * 10), locale).subject

    assert len(subject) <= 60
    assert subject.startswith(usual.removesuffix(": ?"))
    assert "12345678" in subject
    assert subject.endswith("…")
