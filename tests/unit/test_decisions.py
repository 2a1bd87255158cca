"""What becomes of an ad: decisions without a database."""

from dataclasses import replace
from decimal import Decimal

import pytest

from consumers.moderation.review.ad import (
    LONGEST_JUDGED,
    Ad,
    Owner,
    Past,
    Words,
    whole,
)
from consumers.moderation.review.decisions import (
    AWAITING,
    COUNTED,
    MAX_ATTEMPTS,
    STATUS_AFTER,
    TRANSITIONS,
    Judgement,
    decide,
    is_over_limit,
    refuse,
    was_judged_by_person,
    why_not,
)
from consumers.moderation.review.reasons import PERSON_LOOKS, too_many_edits
from consumers.moderation.review.replay import differs
from consumers.moderation.rules.model import Verdict

WORDS = Words("Таврія", "Один власник", Decimal(1200), "USD", "1994", "120")
AD = Ad(id=7, status="pending", needs_manual_review=False, by_person=False, owner_id=3, words=WORDS)
NEVER = Past(None, None, None, None, attempts=0, is_counted=False)
OWNER = Owner(may_bypass=None, locale="uk")


def judgement(verdict: Verdict) -> Judgement:
    return Judgement(verdict=verdict, actor="rules 1", reason="why", rules="1")


def test_every_decision_is_a_valid_transition():
    for status in AWAITING:
        for after in STATUS_AFTER.values():
            assert after == status or after in TRANSITIONS[status]


def test_sold_archived_and_blocked_ads_await_no_decision():
    assert {"draft", "pending", "needs_review", "rejected"} == AWAITING


@pytest.mark.parametrize(
    ("verdict", "status", "attempts"),
    [
        ("approve", "active", 1),
        ("needs_edit", "needs_review", 2),
        ("reject", "rejected", 2),
        ("review", "needs_review", 1),
    ],
)
def test_verdict_determines_status_and_attempts(verdict: Verdict, status: str, attempts: int):
    decision = decide(judgement(verdict), replace(NEVER, attempts=1))

    assert (decision.to_status, decision.attempts, decision.verdict) == (status, attempts, verdict)


@pytest.mark.parametrize("verdict", COUNTED)
def test_same_content_counts_once(verdict: Verdict):
    assert decide(judgement(verdict), replace(NEVER, attempts=2, is_counted=True)).attempts == 2


@pytest.mark.parametrize(
    ("attempts", "is_counted", "over"), [(MAX_ATTEMPTS - 1, False, False), (MAX_ATTEMPTS, False, True)]
)
def test_limit_is_three_attempts(attempts: int, *, is_counted: bool, over: bool):
    assert is_over_limit(replace(NEVER, attempts=attempts, is_counted=is_counted)) is over


def test_counted_content_is_not_over_the_limit():
    assert not is_over_limit(replace(NEVER, attempts=MAX_ATTEMPTS, is_counted=True))


def test_rejection_for_too_many_edits_is_new_once():
    first = refuse(OWNER, replace(NEVER, attempts=3))
    second = refuse(OWNER, replace(NEVER, attempts=3, action="max_attempts_reached"))

    assert (first.is_new, second.is_new) == (True, False)
    assert first.verdict == second.verdict == "reject"


def decided(action: str, status: str, rules: str | None = "1") -> Past:
    return Past(action, status, WORDS.hash, rules, attempts=1, is_counted=True)


@pytest.mark.parametrize(
    ("status", "past", "why"),
    [
        ("pending", NEVER, None),
        ("active", NEVER, "it is active already"),
        ("sold", NEVER, 'its status is "sold", which waits for no decision'),
        ("a new one", NEVER, 'its status is "a new one", which waits for no decision'),
        ("needs_review", decided("needs_edit", "needs_review"), "the same text was decided upon already"),
        ("needs_review", decided("needs_edit", "needs_review", rules="older"), None),
        ("pending", decided("needs_edit", "needs_review"), None),
        ("needs_review", replace(decided("needs_edit", "needs_review"), content_hash="another"), None),
    ],
)
def test_skip_reason(status: str, past: Past, why: str | None):
    assert why_not(replace(AD, status=status), past, rules="1") == why


@pytest.mark.parametrize(
    ("by_person", "content_hash", "known"),
    [(True, WORDS.hash, True), (False, WORDS.hash, False), (True, "another", False), (True, None, False)],
)
def test_content_was_judged_by_person_if_hash_matches(content_hash: str | None, *, by_person: bool, known: bool):
    past = replace(NEVER, content_hash=content_hash)

    assert was_judged_by_person(replace(AD, by_person=by_person), past) is known


@pytest.mark.parametrize(
    "other",
    [
        replace(WORDS, title="Таврія!"),
        replace(WORDS, description="Два власники"),
        replace(WORDS, price=None),
        replace(WORDS, currency="EUR"),
        replace(WORDS, year="1995"),
        replace(WORDS, mileage=None),
        replace(WORDS, title="Таврія Один", description="власник"),
    ],
)
def test_hash_depends_on_each_field(other: Words):
    assert other.hash != WORDS.hash
    assert replace(other).hash == other.hash


def test_hash_is_stable_over_versions():
    assert WORDS.hash == "b6ec9b830e3b58e757b1e40bbb53ce242d62ed6b535ebcc46764ed50853154e7"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1994", 1994),
        (" 1994 ", 1994),
        ("1994.0", 1994),
        ("0", 0),
        ("", None),
        (None, None),
        ("1994 рік", None),
        ("19,94", None),
        ("-1", None),
        ("1e3", None),
        ("١٩٩٤", None),
        ("²", None),
        ("1" * 10, None),
        ("true", None),
    ],
)
def test_parse_int_accepts_whole_numbers_only(text: str | None, number: int | None):
    assert whole(text) == number


@pytest.mark.parametrize(("length", "too_long"), [(LONGEST_JUDGED, False), (LONGEST_JUDGED + 1, True)])
def test_overlong_description_is_detected(length: int, *, too_long: bool):
    assert replace(WORDS, description="x" * length).is_too_long is too_long


@pytest.mark.parametrize("locale", ["uk", "en", "ru"])
def test_owners_are_told_in_each_language(locale: str):
    assert PERSON_LOOKS[locale]
    assert "3" in too_many_edits(locale, 3, 30)
    assert "30" in too_many_edits(locale, 3, 30)


@pytest.mark.parametrize(
    ("before", "now", "other"),
    [
        ("approve", "approve", False),
        ("approve", "review", True),
        ("review", "approve", True),
        (None, "approve", False),
        (None, "needs_edit", True),
        ("doubt", "approve", False),
        ("doubt", "reject", True),
        ("max_attempts_reached", "approve", False),
        ("bypass", "reject", False),
    ],
)
def test_replay_detects_changed_verdicts(before: str | None, now: Verdict, *, other: bool):
    assert differs(before, now) is other
