"""Decisions about ads, as pure functions."""

from dataclasses import replace
from decimal import Decimal

import pytest

from consumers.moderation.review.ad import MAX_REVIEWED_LENGTH, Ad, AdContent, History, Owner, parse_int
from consumers.moderation.review.decisions import (
    AWAITING_DECISION,
    COUNTED,
    MAX_ATTEMPTS,
    STATUS_AFTER,
    TRANSITIONS,
    Judgement,
    decide,
    is_over_limit,
    reject_over_limit,
    skip_reason,
    was_judged_by_person,
)
from consumers.moderation.review.judge import judge
from consumers.moderation.review.replay import is_changed
from consumers.moderation.rules.model import Verdict
from pocketwatch.settings import Moderation
from schemas.locale import Locale

CONTENT = AdContent("Таврія", "Один власник", Decimal(1200), "USD", "1994", "120")
AD = Ad(id=7, status="pending", needs_manual_review=False, by_person=False, owner_id=3, content=CONTENT)
NO_HISTORY = History(None, None, None, None, attempts=0, is_counted=False)
OWNER = Owner(may_bypass=None, locale="uk")


def judgement(verdict: Verdict) -> Judgement:
    return Judgement(verdict=verdict, actor="rules 1", reason="a reason", rules="1")


def test_every_decision_is_a_valid_transition():
    for status in AWAITING_DECISION:
        for after in STATUS_AFTER.values():
            assert after == status or after in TRANSITIONS[status]


def test_sold_archived_and_blocked_ads_await_no_decision():
    assert {"draft", "pending", "needs_review", "rejected"} == AWAITING_DECISION


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
    decision = decide(judgement(verdict), replace(NO_HISTORY, attempts=1))

    assert (decision.to_status, decision.attempts, decision.verdict) == (status, attempts, verdict)


@pytest.mark.parametrize("verdict", COUNTED)
def test_same_content_counts_once(verdict: Verdict):
    assert decide(judgement(verdict), replace(NO_HISTORY, attempts=2, is_counted=True)).attempts == 2


@pytest.mark.parametrize(
    ("attempts", "is_counted", "over"), [(MAX_ATTEMPTS - 1, False, False), (MAX_ATTEMPTS, False, True)]
)
def test_limit_is_three_attempts(attempts: int, *, is_counted: bool, over: bool):
    assert is_over_limit(replace(NO_HISTORY, attempts=attempts, is_counted=is_counted)) is over


def test_counted_content_is_not_over_the_limit():
    assert not is_over_limit(replace(NO_HISTORY, attempts=MAX_ATTEMPTS, is_counted=True))


def test_rejection_for_too_many_edits_is_new_once():
    first = reject_over_limit(OWNER, replace(NO_HISTORY, attempts=3))
    second = reject_over_limit(OWNER, replace(NO_HISTORY, attempts=3, action="max_attempts_reached"))

    assert (first.is_new, second.is_new) == (True, False)
    assert first.verdict == second.verdict == "reject"


def decided(action: str, status: str, rules: str | None = "1") -> History:
    return History(action, status, CONTENT.hash, rules, attempts=1, is_counted=True)


@pytest.mark.parametrize(
    ("status", "history", "reason"),
    [
        ("pending", NO_HISTORY, None),
        ("active", NO_HISTORY, "already active"),
        ("sold", NO_HISTORY, 'status "sold": does not await a decision'),
        ("a new one", NO_HISTORY, 'status "a new one": does not await a decision'),
        ("needs_review", decided("needs_edit", "needs_review"), "same content already decided"),
        ("needs_review", decided("needs_edit", "needs_review", rules="older"), None),
        ("pending", decided("needs_edit", "needs_review"), None),
        ("needs_review", replace(decided("needs_edit", "needs_review"), content_hash="another"), None),
    ],
)
def test_skip_reason(status: str, history: History, reason: str | None):
    assert skip_reason(replace(AD, status=status), history, rules="1") == reason


@pytest.mark.parametrize(
    ("by_person", "content_hash", "known"),
    [(True, CONTENT.hash, True), (False, CONTENT.hash, False), (True, "another", False), (True, None, False)],
)
def test_content_was_judged_by_person_if_hash_matches(content_hash: str | None, *, by_person: bool, known: bool):
    history = replace(NO_HISTORY, content_hash=content_hash)

    assert was_judged_by_person(replace(AD, by_person=by_person), history) is known


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTENT, title="Таврія!"),
        replace(CONTENT, description="Два власники"),
        replace(CONTENT, price=None),
        replace(CONTENT, currency="EUR"),
        replace(CONTENT, year="1995"),
        replace(CONTENT, mileage=None),
        replace(CONTENT, title="Таврія Один", description="власник"),
    ],
)
def test_hash_depends_on_each_field(other: AdContent):
    assert other.hash != CONTENT.hash
    assert replace(other).hash == other.hash


def test_hash_is_stable_over_versions():
    assert CONTENT.hash == "b6ec9b830e3b58e757b1e40bbb53ce242d62ed6b535ebcc46764ed50853154e7"


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
    assert parse_int(text) == number


@pytest.mark.parametrize(("length", "too_long"), [(MAX_REVIEWED_LENGTH, False), (MAX_REVIEWED_LENGTH + 1, True)])
def test_overlong_description_is_detected(length: int, *, too_long: bool):
    assert replace(CONTENT, description="x" * length).is_too_long is too_long


@pytest.mark.parametrize(
    ("locale", "reason"),
    [
        ("uk", "Ліміт змін вичерпано: 3 протягом 30 днів. Останню зміну не розглядали."),
        ("en", "The limit of edits is used up: 3 within 30 days. The last one was not looked at."),
        ("ru", "Лимит изменений исчерпан: 3 в течение 30 дней. Последнее изменение не рассматривали."),
    ],
)
def test_rejection_for_too_many_edits_is_localized(locale: Locale, reason: str):
    decision = reject_over_limit(Owner(may_bypass=None, locale=locale), replace(NO_HISTORY, attempts=3))

    assert decision.judgement.reasons == (reason,)


@pytest.mark.parametrize(
    ("locale", "reason"),
    [
        ("uk", "Оголошення перегляне модератор; робити нічого не потрібно."),
        ("en", "A moderator will look at the ad; there is nothing for you to do."),
        ("ru", "Объявление посмотрит модератор; делать ничего не нужно."),
    ],
)
async def test_manual_review_is_announced_in_each_language(locale: Locale, reason: str):
    overlong = replace(AD, content=replace(CONTENT, description="x" * (MAX_REVIEWED_LENGTH + 1)))

    judged = await judge(overlong, Owner(may_bypass=None, locale=locale), NO_HISTORY, Moderation())

    assert (judged.verdict, judged.reasons) == ("review", (reason,))


@pytest.mark.parametrize(
    ("before", "now", "changed"),
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
def test_replay_detects_changed_verdicts(before: str | None, now: Verdict, *, changed: bool):
    assert is_changed(before, now) is changed
