"""Judges an ad by the rules and, where one is configured, a classifier; the stricter verdict wins."""

import asyncio
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from consumers.moderation.review import classifier
from consumers.moderation.review.ad import MAX_REVIEWED_LENGTH, MAX_REVIEWED_TITLE, Ad, History, Owner
from consumers.moderation.review.classifier import ClassifierAnswer, ClassifierError
from consumers.moderation.review.decisions import ACTOR, Judgement, was_judged_by_person
from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import AdText, Hit, RuleResult
from pocketwatch.settings import Moderation
from schemas.locale import Locale
from templates.translations import gettext_noop as _
from templates.translations import translations

MAX_INLINE_LENGTH = 2_000  # characters, at most 50 ms; longer texts are evaluated in a thread
PENDING_REVIEW = _("A moderator will look at the ad; there is nothing for you to do.")


@cache
def rules_of(path: Path | None) -> RuleSet:
    """Return the rule set of the settings, read once per process.

    Raises:
        SettingsError: if it is invalid; it is read again the next time.
    """
    return RuleSet.load(path)


async def judge(ad: Ad, owner: Owner, history: History, settings: Moderation) -> Judgement:
    """Judge an ad that awaits a decision; what cannot be judged automatically is for a manual review."""
    if owner.may_bypass is not None:
        return Judgement(verdict="approve", actor=f"bypass:{owner.may_bypass}", reason="the owner bypasses moderation")
    rules = rules_of(settings.rules)
    if ad.content.is_too_long:
        limits = f"{MAX_REVIEWED_TITLE} characters of title and {MAX_REVIEWED_LENGTH} of description"
        return _manual_review(owner, rules, f"its text is longer than {limits}, so it was not read")
    judgement = from_rules(await _evaluate(rules, ad.content.text), owner)
    if judgement.verdict != "approve":
        return judgement
    if was_judged_by_person(ad, history):
        return _manual_review(owner, rules, "a person has decided about this very text before")
    return judgement if settings.url is None else await _ask_classifier(judgement, ad.content.text, owner, settings)


async def _evaluate(rules: RuleSet, text: AdText) -> RuleResult:
    if len(text.title) + len(text.description) <= MAX_INLINE_LENGTH:
        return rules.evaluate(text)
    return await asyncio.to_thread(rules.evaluate, text)


async def _ask_classifier(by_rules: Judgement, text: AdText, owner: Owner, settings: Moderation) -> Judgement:
    try:
        answer = await classifier.ask(text, settings)
    except ClassifierError as error:
        reason = f"the classifier failed: {error}"
        return _doubtful(by_rules, owner, settings.model, reason, {"unclear": str(error)})
    return from_classifier(answer, by_rules, owner, settings.model)


def from_rules(result: RuleResult, owner: Owner) -> Judgement:
    shadow = [hit for hit in result.hits if hit.shadow]
    reasons = tuple(result.reasons(owner.locale))
    return Judgement(
        verdict=result.verdict,
        actor=f"rules {result.version}",
        reason="; ".join(result.reasons("en")) or "no rule matched",
        reasons=(*reasons, _pending_review(owner.locale)) if result.verdict == "review" else reasons,
        categories=tuple(dict.fromkeys(hit.category for hit in result.enforced)),
        flagged=result.verdict == "review",
        rules=result.version,
        scores=result.scores,
        details={"hits": [_record(hit) for hit in result.enforced], "shadow": [_record(hit) for hit in shadow]},
    )


def from_classifier(answer: ClassifierAnswer, by_rules: Judgement, owner: Owner, model: str) -> Judgement:
    """Combine an answer with the approval by the rules: a classifier never rejects by itself."""
    details, reason = answer.model_dump(), f"the classifier says {answer.decision}: {answer.reason}"
    if answer.is_clear_approval:
        return replace(by_rules, actor=f"classifier {model}", reason=reason, details=_details(by_rules, model, details))
    categories = f" ({', '.join(answer.categories)})" if answer.categories else ""
    return _doubtful(by_rules, owner, model, f"{reason}{categories}", details)


def _doubtful(by_rules: Judgement, owner: Owner, model: str, reason: str, details: dict[str, Any]) -> Judgement:
    return replace(
        by_rules,
        verdict="review",
        actor=f"classifier {model}",
        reason=reason,
        reasons=(_pending_review(owner.locale),),
        remarks=(reason,),
        details=_details(by_rules, model, details),
    )


def _details(by_rules: Judgement, model: str, answer: dict[str, Any]) -> dict[str, Any]:
    return {**by_rules.details, "classifier": {"model": model, **answer}}


def _manual_review(owner: Owner, rules: RuleSet, reason: str) -> Judgement:
    return Judgement(
        verdict="review",
        actor=ACTOR,
        reason=reason,
        reasons=(_pending_review(owner.locale),),
        remarks=(reason,),
        rules=rules.version,
    )


def _pending_review(locale: Locale) -> str:
    return translations(locale).gettext(PENDING_REVIEW)


def _record(hit: Hit) -> dict[str, str]:
    return {"rule": hit.rule, "severity": hit.severity, "excerpt": hit.excerpt}
