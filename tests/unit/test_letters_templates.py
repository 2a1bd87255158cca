"""Templates of letters: complete, translated, and without anything that a letter must not hold."""

import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

from consumers.mail.compose.samples import SAMPLES, UNSUBSCRIBE
from schemas.emails import LETTERS
from schemas.locale import LOCALES
from templates.translations import SOURCE_LOCALE

TEMPLATES = Path(str(files("templates")))
MAIL = TEMPLATES / "mail"
TRANSLATED = [locale for locale in LOCALES if locale != SOURCE_LOCALE]
PLACEHOLDER = re.compile(r"%\(\w+\)s|%%")


def catalogue(locale: str) -> Catalog:
    with (TEMPLATES / "locale" / locale / "LC_MESSAGES" / "emails.po").open("rb") as po:
        return read_po(po, locale=locale, abort_invalid=True)


def words_of_templates() -> set[str | tuple[str, ...]]:
    with (TEMPLATES / "babel.cfg").open() as config:
        methods, options = parse_mapping_cfg(config)
    found = extract_from_dir(TEMPLATES, methods, options, directory_filter=lambda _: True)
    return {message for _, _, message, _, _ in found}


def listed(text: str | tuple[str, ...]) -> list[str]:
    return [text] if isinstance(text, str) else list(text)


class Page(HTMLParser):
    """What a page would load, and what it says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def test_every_letter_has_its_three_files_and_no_folder_is_without_a_letter():
    folders = {folder.name for folder in MAIL.iterdir() if folder.name != "_base"}

    assert folders == set(LETTERS)
    for name in folders:
        assert {"subject.txt", "body.txt", "body.html"} <= {file.name for file in (MAIL / name).iterdir()}


@pytest.mark.parametrize("locale", TRANSLATED)
def test_every_word_of_the_templates_is_in_the_catalogue_and_none_besides(locale):
    messages = {tuple(listed(message.id)) for message in catalogue(locale) if message.id}

    assert messages == {tuple(listed(message)) for message in words_of_templates()}


@pytest.mark.parametrize("locale", TRANSLATED)
def test_every_word_is_translated_in_all_its_plurals(locale):
    known = catalogue(locale)

    assert not known.obsolete
    for message in known:
        if message.id:
            assert not message.fuzzy, message.id
            assert all(listed(message.string)), message.id
            assert len(listed(message.string)) == (known.num_plurals if message.pluralizable else 1)


@pytest.mark.parametrize("locale", TRANSLATED)
def test_a_translation_names_the_facts_that_its_original_names(locale):
    for message in catalogue(locale):
        if message.id:
            named = {fact for one in listed(message.id) for fact in PLACEHOLDER.findall(one)}
            for translation in listed(message.string):
                assert set(PLACEHOLDER.findall(translation)) == named, message.id


def test_no_template_says_that_its_text_is_safe():
    files = list(TEMPLATES.rglob("*.html"))

    assert files
    for file in files:
        source = file.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe\b|autoescape|Markup", source), file


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("letter", SAMPLES, ids=lambda letter: letter.name)
def test_a_letter_loads_nothing_but_what_comes_with_it_and_runs_nothing(letters, letter, locale):
    html = letters.render(letter, locale, unsubscribe_url=UNSUBSCRIBE).html

    page = Page(html)

    assert not {"script", "link", "iframe", "object", "form", "video", "svg"} & set(page.tags)
    assert not re.search(r"url\(|@import|@font-face|expression\(", html)
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in {"srcset", "background", "ping"}
        assert name != "src" or (tag == "img" and value.startswith("cid:"))
        if "://" in value:
            assert (tag, name) == ("a", "href")


@pytest.mark.parametrize("letter", SAMPLES, ids=lambda letter: letter.name)
def test_the_style_stands_in_the_elements_because_programs_drop_style_sheets(letters, letter):
    page = Page(letters.render(letter, "uk").html)

    classes = [value for _, name, value in page.attributes if name == "class"]
    styles = [value for _, name, value in page.attributes if name == "style"]
    assert len(styles) == len(classes)


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("letter", SAMPLES, ids=lambda letter: letter.name)
def test_a_subject_has_at_most_sixty_characters(letters, letter, locale):
    assert len(letters.render(letter, locale).subject) <= 60


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", [name for name in LETTERS if name not in {"manager_digest", "daily_report", "plain"}])
def test_a_long_title_is_cut_and_never_the_news(letters, sample, name, locale):
    usual = letters.render(sample(name, ad_id=12_345_678, ad_title="?"), locale).subject

    subject = letters.render(sample(name, ad_id=12_345_678, ad_title="Дуже довга назва " * 10), locale).subject

    assert len(subject) <= 60
    assert subject.startswith(usual.removesuffix(": ?"))
    assert "12345678" in subject
    assert subject.endswith("…")
