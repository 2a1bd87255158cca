"""Judging a text: by the rules, which are the default, and by a classifier where one is set. The stricter one wins."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from consumers.moderation.review import classifier, reasons
from consumers.moderation.review.ad import (
    LONGEST_JUDGED,
    Ad,
    Owner,
    Past,
)
from consumers.moderation.review.classifier import Answer, Unclear
from consumers.moderation.review.decisions import ACTOR, Judgement, was_judged_by_person
from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import AdText, Hit, Opinion
from pocketwatch.settings import Moderation

AT_ONCE = 10_000  # characters; a longer text is examined in a thread, so that the others need not wait for it


@cache
def rules_of(path: Path | None) -> RuleSet:
    """The rule set of the settings, read once a process.

    Raises:
        SettingsError: when it cannot be used; it is read again the next time.
    """
    return RuleSet.load(path)


async def judge(ad: Ad, owner: Owner, past: Past, settings: Moderation) -> Judgement:
    """What to think of an ad whose status awaits a decision. What nobody can tell for certain is for a person."""
    if owner.may_bypass is not None:
        return Judgement(verdict="approve", actor=f"bypass:{owner.may_bypass}", reason="its owner needs no moderation")
    rules = rules_of(settings.rules)
    if ad.words.is_too_long:
        reason = f"its text is longer than {LONGEST_JUDGED} characters"
        return _for_a_person(owner, rules, reason)
    opinion = await _examine(rules, ad.words.text)
    judgement = by_rules(opinion, owner)
    if judgement.verdict != "approve":
        return judgement
    if was_judged_by_person(ad, past):
        return _for_a_person(owner, rules, "a person has decided about this very text before")
    return judgement if settings.url is None else await _second(judgement, ad.words.text, owner, settings)


def by_rules(opinion: Opinion, owner: Owner) -> Judgement:
    """What the rules say, as a judgement."""
    shadow = [hit for hit in opinion.hits if hit.shadow]
    told = tuple(opinion.reasons(owner.locale))
    return Judgement(
        verdict=opinion.verdict,
        actor=f"rules {opinion.version}",
        reason="; ".join(opinion.reasons("en")) or "no rule has anything against it",
        reasons=(*told, reasons.PERSON_LOOKS[owner.locale]) if opinion.verdict == "review" else told,
        categories=tuple(dict.fromkeys(hit.category for hit in opinion.enforced)),
        flagged=opinion.verdict == "review",
        rules=opinion.version,
        scores=opinion.scores,
        details={"hits": [_record(hit) for hit in opinion.enforced], "shadow": [_record(hit) for hit in shadow]},
    )


async def _examine(rules: RuleSet, text: AdText) -> Opinion:
    if len(text.title) + len(text.description) <= AT_ONCE:
        return rules.examine(text)
    return await asyncio.to_thread(rules.examine, text)


async def _second(first: Judgement, text: AdText, owner: Owner, settings: Moderation) -> Judgement:
    """The rules have nothing against it: what does the classifier say?"""
    try:
        return by_classifier(await classifier.ask(text, settings), first, owner, settings.model)
    except Unclear as unclear:
        said = {"unclear": str(unclear)}
        return _doubted(first, owner, settings.model, f"the classifier is unclear: {unclear}", said)


def by_classifier(answer: Answer, first: Judgement, owner: Owner, model: str) -> Judgement:
    """What a classifier says about what the rules let pass. It alone refuses nothing, and approves only outright."""
    said, reason = answer.model_dump(), f"the classifier says {answer.decision}: {answer.reason}"
    if answer.is_clear_approval:
        return replace(first, actor=f"classifier {model}", reason=reason, details=_details(first, model, said))
    found = f" ({', '.join(answer.categories)})" if answer.categories else ""
    return _doubted(first, owner, model, f"{reason}{found}", said)


def _doubted(first: Judgement, owner: Owner, model: str, reason: str, said: Mapping[str, Any]) -> Judgement:
    return replace(
        first,
        verdict="review",
        actor=f"classifier {model}",
        reason=reason,
        reasons=(reasons.PERSON_LOOKS[owner.locale],),
        remarks=(reason,),
        details=_details(first, model, said),
    )


def _details(first: Judgement, model: str, said: Mapping[str, Any]) -> dict[str, Any]:
    return {**first.details, "classifier": {"model": model, **said}}


def _for_a_person(owner: Owner, rules: RuleSet, reason: str) -> Judgement:
    return Judgement(
        verdict="review",
        actor=ACTOR,
        reason=reason,
        reasons=(reasons.PERSON_LOOKS[owner.locale],),
        remarks=(reason,),
        rules=rules.version,
    )


def _record(hit: Hit) -> dict[str, str]:
    return {"rule": hit.rule, "severity": hit.severity, "excerpt": hit.excerpt}
