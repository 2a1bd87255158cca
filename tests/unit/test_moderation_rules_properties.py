"""Whatever an ad says, the rules answer, always the same, and in time."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import VERDICTS, AdText
from consumers.moderation.rules.normalize import plain, readings

RULES = RuleSet.load()
calm = settings(deadline=None)  # a busy machine is no error
signs = st.characters(codec=None)  # lone surrogates, too
pieces = st.sampled_from(
    (
        *(
            "сука",
            "cyкa",
            "с",
            "у",
            "к",
            "а",
            "067",
            "123",
            "45",
            "нуль",
            "шість",
            "О",
            "3",
            "0️⃣",
            "(",
            ")",
            ".",
            "-",
            "*",
        ),
        *("@ivan_auto", "t.me/ivan", "ivan@ukr.net", "собака", "крапка", "com", "передоплата", "на", "картку", "гашиш"),
        *(
            "машина",
            "без",
            "документів",
            "!!!!!!!",
            "\u200b",
            "\x00",
            "\ud800",
            "\u202e",
            "🚗",
            "ﷺ",
            "й",
            "𝓯",
            "Ⅷ",
            "ß",
            "İ",
        ),
    )
)
texts = (
    st.text(signs, max_size=80)
    | st.lists(pieces, max_size=15).map(" ".join)
    | st.lists(pieces, max_size=15).map("".join)
)
ads = st.builds(
    AdText,
    title=texts,
    description=texts,
    price=st.none() | st.decimals() | st.just(Decimal("sNaN")),
    currency=st.none() | st.text(max_size=8),
    year=st.none() | st.integers(),
    mileage=st.none() | st.integers(),
)


@calm
@given(ad=ads)
def test_any_ad_gets_a_verdict_that_its_enforced_hits_explain(ad: AdText):
    opinion = RULES.examine(ad)

    severities = {hit.severity for hit in opinion.enforced}
    assert opinion.verdict == next(
        (VERDICTS[each] for each in ("reject", "flag", "edit") if each in severities), "approve"
    )
    assert (
        (opinion.verdict == "approve") is (not opinion.enforced) is (not opinion.reasons("uk")) is (not opinion.scores)
    )
    assert all(0 < score <= 1 for score in opinion.scores.values())
    for hit in opinion.hits:
        assert 0 < len(hit.excerpt) <= 60
        assert hit.excerpt.isprintable()
        hit.excerpt.encode()
    assert RULES.examine(ad) == opinion


@calm
@given(text=texts)
def test_folding_twice_is_folding_once(text: str):
    once = plain(text)

    assert plain(once) == once
    once.encode()


@calm
@given(text=st.text(st.sampled_from("сукаcykaxyйпи3дaбл@*10oо$"), min_size=1, max_size=12))
def test_the_likeliest_reading_of_a_reading_is_itself(text: str):
    likeliest = readings(text)[0]

    assert readings(likeliest)[0] == likeliest


GARBAGE = {
    "one letter": "а",
    "single letters": "с ",
    "dotted letters": "f.",
    "digits": "0",
    "single digits": "0 ",
    "almost numbers": "06 7",
    "numbers": "067123456 ",
    "number words": "нуль ",
    "o in numbers": "о0",
    "three in numbers": "з3",
    "hosts": "ab.",
    "addresses": "a@",
    "almost addresses": "a@b.c ",
    "addresses with blanks": "a @ b . ",
    "at in words": "a собака ",
    "dots in words": "крапка ",
    "schemes": "http://",
    "messengers": "телеграм: ",
    "marks": "!",
    "marks apart": "!a",
    "beginnings of phrases": "передоплата ",
    "long root": "пиз",
    "masks": "х*",
    "apostrophes": "ʼ",
    "combining marks": "\u0301\u0316",
    "zero width": "\u200b",
    "ligatures": "ﷺ",
    "brackets": "+(",
    "dates": "05.06.",
    "not characters": "\ud800\x00",
    "right to left": "\u202eא",
    "emoji": "🚗🏽",
    "lines": "\n",
}


@pytest.mark.timeout(60)  # what takes time in proportion takes a second or two, the square of it takes hours
@pytest.mark.parametrize("piece", GARBAGE.values(), ids=GARBAGE)
def test_a_hundred_thousand_signs_of_garbage_take_time_in_proportion(piece: str):
    text = (piece * 100_000)[:100_000]

    opinion = RULES.examine(AdText(title=text[:1000], description=text))

    assert opinion.version == RULES.version
