"""The file of rules: what is refused, and with which words."""

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
        (changed('"flag"', '"reject"'), 'rule "test.words": severity is "reject": a word list alone never rejects'),
        (changed('"flag"', '"ban"'), "rule \"test.words\": severity is \"ban\": must be 'flag', 'edit' or 'reject'"),
        (
            changed("roots", "root"),
            'rule "test.words": field "roots" is missing; unknown field "root"; did you mean "roots"?',
        ),
        (changed(', ru = "да"', ""), 'rule "test.words": field "text.ru" is missing'),
        (changed('"surely*"', '"*"'), '"*" is no root; write a word, with * where it may go on'),
        (changed('"surely*"', '"two words"'), '"two words" is no root'),
        (changed('"words"', '"word"'), "kind is 'word'; known are words, phrases, phone"),
        (changed('"test.words"', '"Words"'), 'rule "Words": id is "Words"'),
        (changed('version = "1"', ""), "version is None: write a text"),
        (changed('version = "1"', "version = 2"), "version is 2: write a text"),
        ('version = "1"', "there is no [[rule]]"),
        (WORDS + "\n[rules]", '"rules" is no key of a rule file'),
        (WORDS + WORDS.replace('version = "1"', ""), 'rule "test.words" is there 2 times'),
        (WORDS + BOTH, 'rule "test.both": there is no rule or category "test.email" that can be combined'),
        (
            WORDS + changed(', "test.email"', "", BOTH),
            'rule "test.both": severity is "reject", but all its parts may be lists of words; write "flag"',
        ),
        (
            WORDS + changed('"edit"', '"reject"', LINK),
            'rule "test.email": severity is "reject": only a combination rejects',
        ),
        ("version = ", "cannot be read"),
        (
            changed('kind = "words"\nroots = ["surely*"]', 'kind = "phone"\nregion = "Ukraine"'),
            '"Ukraine" is no region',
        ),
        (
            changed('kind = "words"\nroots = ["surely*"]', 'kind = "phrases"\nphrases = ["... a"]'),
            '"... a" is no phrase',
        ),
    ],
)
def test_a_wrong_file_is_refused_with_what_would_be_right(tmp_path: Path, text: str, words: str):
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, text)

    assert words in str(caught.value)
    assert str(tmp_path / "rules.toml") in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        RuleSet.load(tmp_path / "nowhere.toml")


def test_a_combination_rejects_when_all_its_parts_have_fired(tmp_path: Path):
    rules = loaded(tmp_path, WORDS + LINK + BOTH)

    opinion = rules.examine(AD)

    assert opinion.verdict == "reject"
    assert [hit.rule for hit in opinion.hits] == ["test.both", "test.words", "test.email"]
    assert opinion.hits[0].excerpt == "surely, ivan@ukr.net"


def test_a_part_in_shadow_does_not_complete_an_enforced_combination(tmp_path: Path):
    shadow = LINK.replace('kind = "email"', 'kind = "email"\nshadow = true')

    opinion = loaded(tmp_path, WORDS + shadow + BOTH).examine(AD)

    assert opinion.verdict == "review"
    assert [hit.rule for hit in opinion.hits] == ["test.words", "test.email"]


def test_the_rules_that_come_with_the_suite_say_something_else_in_each_language():
    for rule in RuleSet.load().rules:
        assert len({rule.text.uk, rule.text.en, rule.text.ru}) == 3
