"""Catalogues: complete, current, and consistent with the texts in templates and code."""

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po

from schemas.locale import LOCALES
from templates.translations import SOURCE_LOCALE

PROJECT = Path(__file__).parents[2]
LOCALE = PROJECT / "templates" / "locale"
TRANSLATED = [locale for locale in LOCALES if locale != SOURCE_LOCALE]
FILES = sorted(LOCALE.glob("*/LC_MESSAGES/*.po"))
PLACEHOLDER = re.compile(r"%\(\w+\)s|%%|\{\w+\}")


def read(file: Path) -> Catalog:
    with file.open("rb") as po:
        return read_po(po, locale=file.parts[-3], abort_invalid=True)


def source(catalogue: str) -> Path:
    """The folder whose texts a catalogue contains; as in `make messages`."""
    return PROJECT / ("templates" if catalogue == "emails" else f"consumers/{catalogue}")


def extracted(folder: Path) -> set[tuple[str, ...]]:
    with (PROJECT / "templates" / "babel.cfg").open() as config:
        methods, options = parse_mapping_cfg(config)
    found = extract_from_dir(folder, methods, options, directory_filter=lambda _: True)
    return {listed(message) for _, _, message, _, _ in found}


def listed(text: str | tuple[str, ...]) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text)


def name(file: Path) -> str:
    return f"{file.parts[-3]}/{file.stem}"


def test_every_language_has_the_same_catalogues():
    assert {(file.parts[-3], file.stem) for file in FILES} == {
        (locale, stem) for locale in TRANSLATED for stem in {file.stem for file in FILES}
    }


@pytest.mark.parametrize("file", FILES, ids=name)
def test_catalogue_contains_exactly_the_texts_of_its_source(file: Path):
    messages = {listed(message.id) for message in read(file) if message.id}

    assert messages == extracted(source(file.stem)), "run: make messages"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_every_text_is_translated_in_all_plural_forms(file: Path):
    catalogue = read(file)

    assert not catalogue.obsolete
    for message in catalogue:
        if message.id:
            assert not message.fuzzy, message.id
            assert all(listed(message.string)), message.id
            assert len(listed(message.string)) == (catalogue.num_plurals if message.pluralizable else 1)


@pytest.mark.parametrize("file", FILES, ids=name)
def test_translation_has_the_placeholders_of_its_text(file: Path):
    for message in read(file):
        if message.id:
            expected = {placeholder for text in listed(message.id) for placeholder in PLACEHOLDER.findall(text)}
            for translation in listed(message.string):
                assert set(PLACEHOLDER.findall(translation)) == expected, message.id


@pytest.mark.parametrize("locale", TRANSLATED)
def test_catalogues_of_a_language_do_not_contradict_each_other(locale: str):
    seen: dict[tuple[str | None, tuple[str, ...]], tuple[str, ...]] = {}

    for file in sorted((LOCALE / locale).glob("LC_MESSAGES/*.po")):
        for message in read(file):
            if message.id:
                translation = listed(message.string)
                text = (message.context, listed(message.id))
                assert seen.setdefault(text, translation) == translation, message.id
