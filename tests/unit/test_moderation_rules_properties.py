"""Properties of the rules: any ad gets a deterministic result in linear time."""

import tracemalloc
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import VERDICTS, AdText
from consumers.moderation.rules.normalize import normalize, variants

RULES = RuleSet.load()
no_deadline = settings(deadline=None)  # the machine may be busy
characters = st.characters(codec=None)  # lone surrogates, too
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
    st.text(characters, max_size=80)
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


@no_deadline
@given(ad=ads)
def test_verdict_follows_from_enforced_hits(ad: AdText):
    result = RULES.evaluate(ad)

    severities = {hit.severity for hit in result.enforced}
    assert result.verdict == next(
        (VERDICTS[each] for each in ("reject", "flag", "edit") if each in severities), "approve"
    )
    assert (result.verdict == "approve") is (not result.enforced) is (not result.reasons("uk")) is (not result.scores)
    assert all(0 < score <= 1 for score in result.scores.values())
    for hit in result.hits:
        assert 0 < len(hit.excerpt) <= 60
        assert hit.excerpt.isprintable()
        hit.excerpt.encode()
    assert RULES.evaluate(ad) == result


@no_deadline
@given(text=texts)
def test_normalization_is_idempotent(text: str):
    once = normalize(text)

    assert normalize(once) == once
    once.encode()


@no_deadline
@given(text=st.text(st.sampled_from("сукаcykaxyйпи3дaбл@*10oо$"), min_size=1, max_size=12))
def test_first_variant_is_stable(text: str):
    first = variants(text)[0]

    assert variants(first)[0] == first


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
    "words in one token": "t.me/😀",
    "letters in one token": "x.com/",
}


@pytest.mark.timeout(60)  # linear time takes a second or two, quadratic time takes hours
@pytest.mark.parametrize("piece", GARBAGE.values(), ids=GARBAGE)
def test_pathological_text_takes_linear_time(piece: str):
    text = (piece * 100_000)[:100_000]

    result = RULES.evaluate(AdText(title=text[:1000], description=text))

    assert result.version == RULES.version


def memory_of(text: str) -> int:
    """Return the most bytes that an evaluation holds at a time."""
    RULES.evaluate(AdText(title="", description=text))  # fills the caches
    tracemalloc.start()
    RULES.evaluate(AdText(title="", description=text))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@settings(deadline=None, max_examples=10)
@given(unit=st.sampled_from([*GARBAGE.values()]) | st.lists(pieces, min_size=1, max_size=4).map("".join))
@example(unit="t.me/😀")
@example(unit="x.com/")
def test_twice_the_text_takes_at_most_twice_the_memory(unit: str):
    short, long = ((unit * size)[:size] for size in (2_000, 4_000))

    assert memory_of(long) < 2.5 * memory_of(short) + 100_000


def test_excerpt_of_a_long_token_is_the_word():
    result = RULES.evaluate(AdText(title="Lanos", description="/".join(["ok"] * 1_000 + ["гашиш"])))

    assert "гашиш" in {hit.excerpt for hit in result.hits}
