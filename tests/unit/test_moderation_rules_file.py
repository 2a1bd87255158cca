"""Rule files: what is refused, and the error texts."""

from pathlib import Path

import pytest

from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import AdText
from pocketwatch.errors import SettingsError

TEXTS = 'text = { uk = "так", en = "yes", ru = "да" }'
WORDS = f"""
version = "1"

[[rule]]
id = "test.words"
category = "test"
severity = "flag"
kind = "words"
roots = ["surely*"]
{TEXTS}
"""
LINK = f"""
[[rule]]
id = "test.email"
category = "other"
severity = "edit"
kind = "email"
{TEXTS}
"""
BOTH = f"""
[[rule]]
id = "test.both"
category = "test"
severity = "reject"
kind = "combination"
all_of = ["test.words", "test.email"]
{TEXTS}
"""
AD = AdText(title="Skoda Octavia", description="It is surely a good car, write to ivan@ukr.net")


def loaded(tmp_path: Path, text: str) -> RuleSet:
    file = tmp_path / "rules.toml"
    file.write_text(text, encoding="utf-8")
    return RuleSet.load(file)


def changed(old: str, new: str, text: str = WORDS) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            changed('"flag"', '"reject"'),
            'rule "test.words": severity is "reject": a word list alone never rejects; use "flag"',
        ),
        (changed('"flag"', '"ban"'), "rule \"test.words\": severity is \"ban\": must be 'flag', 'edit' or 'reject'"),
        (
            changed("roots", "root"),
            'rule "test.words": field "roots" is missing; unknown field "root"; did you mean "roots"?',
        ),
        (changed(', ru = "да"', ""), 'rule "test.words": field "text.ru" is missing'),
        (changed('"surely*"', '"*"'), '"*" is not a root; write a word, with * where it may continue'),
        (changed('"surely*"', '"two words"'), '"two words" is not a root'),
        (changed('"words"', '"word"'), "kind is 'word'; known: words, phrases, phone"),
        (changed('"test.words"', '"Words"'), 'rule "Words": id is "Words"'),
        (changed('version = "1"', ""), "version is None: not a text"),
        (changed('version = "1"', "version = 2"), "version is 2: not a text"),
        ('version = "1"', "no [[rule]]; add at least one"),
        (WORDS + "\n[rules]", 'unknown key "rules"; known: version and [[rule]]'),
        (WORDS + WORDS.replace('version = "1"', ""), 'rule "test.words" is defined 2 times'),
        (WORDS + BOTH, 'rule "test.both": unknown rule or category "test.email"'),
        (
            WORDS + changed(', "test.email"', "", BOTH),
            'rule "test.both": severity is "reject", but word lists alone may match it; use "flag"',
        ),
        (
            WORDS + changed('"edit"', '"reject"', LINK),
            'rule "test.email": severity is "reject": only a combination rejects',
        ),
        ("version = ", "cannot be read"),
        (
            changed(TEXTS, 'text = "Not translated."'),
            'text is "Not translated.": no translation into uk, ru; write text.uk',
        ),
        (
            changed('kind = "words"\nroots = ["surely*"]', 'kind = "phone"\nregion = "Ukraine"'),
            '"Ukraine" is not a region',
        ),
        (
            changed('kind = "words"\nroots = ["surely*"]', 'kind = "phrases"\nphrases = ["... a"]'),
            '"... a" is not a phrase',
        ),
    ],
)
def test_invalid_rule_file_is_refused_with_the_remedy(tmp_path: Path, text: str, words: str):
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text)

    assert words in str(caught.value)
    assert str(tmp_path / "rules.toml") in str(caught.value)


def test_missing_rule_file_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        RuleSet.load(tmp_path / "nowhere.toml")


def test_combination_rejects_when_all_parts_match(tmp_path: Path):
    rules = loaded(tmp_path, WORDS + LINK + BOTH)

    result = rules.evaluate(AD)

    assert result.verdict == "reject"
    assert [hit.rule for hit in result.hits] == ["test.both", "test.words", "test.email"]
    assert result.hits[0].excerpt == "surely, ivan@ukr.net"


def test_shadow_part_does_not_complete_an_enforced_combination(tmp_path: Path):
    shadow = LINK.replace('kind = "email"', 'kind = "email"\nshadow = true')

    result = loaded(tmp_path, WORDS + shadow + BOTH).evaluate(AD)

    assert result.verdict == "review"
    assert [hit.rule for hit in result.hits] == ["test.words", "test.email"]


def test_english_text_is_translated_by_the_catalogues(tmp_path: Path):
    text = 'text = "The text contains swear words."'

    [rule] = loaded(tmp_path, changed(TEXTS, text)).rules

    assert rule.text.by_locale() == {
        "uk": "У тексті є лайливі слова.",
        "en": "The text contains swear words.",
        "ru": "В тексте есть бранные слова.",
    }


def test_own_rules_have_a_text_in_each_language():
    for rule in RuleSet.load().rules:
        assert len({rule.text.uk, rule.text.en, rule.text.ru}) == 3
