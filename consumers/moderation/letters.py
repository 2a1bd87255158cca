"""Which letter a notice becomes. Where none of its own fits, it has the words of the info table."""

from typing import Any

from consumers.moderation.about import About
from consumers.moderation.wording import Words
from schemas import letters
from schemas.letters import Letter
from schemas.mail import Locale

LONGEST_PARAGRAPH = 5_000


def to_owner(about: About, news: str, words: Words, locale: Locale) -> Letter:
    """The letter to the owner of the ad."""
    if about.ad_id is None or news in {"user_banned", "content_violation"}:
        return _plain(words)
    facts = _facts(about, about.ad_id, locale)
    most: dict[str, Any] = {} if about.data.max_attempts is None else {"max_attempts": about.data.max_attempts}
    match news:
        case "approved":
            return letters.AdApproved(**facts)
        case "rejected":
            return letters.AdRejected(**facts)
        case "needs_edit":
            return letters.AdNeedsEdit(**facts, **most, attempts_left=about.attempts_left)
        case "max_attempts":
            return letters.AdMaxAttempts(**facts, **most)
    return letters.AdStatusChanged(**facts, status=news)


def to_manager(about: About, words: Words, locale: Locale) -> Letter:
    """The letter to a manager."""
    if about.ad_id is None:
        return _plain(words)
    facts = _facts(about, about.ad_id, locale)
    match about.data.action:
        case "needs_review":
            return letters.ManagerReviewRequired(**facts)
        case "flagged":
            return letters.ManagerAdFlagged(**facts)
        case "max_attempts_reached":
            return letters.ManagerMaxAttempts(**facts)
    return letters.ManagerAdEvent(**facts, action=about.data.action)


def _facts(about: About, ad_id: int, locale: Locale) -> dict[str, Any]:
    """What every letter about an ad says. Its address on the site is known to whom renders it."""
    return {
        "ad_id": ad_id,
        "ad_title": about.ads.title(ad_id),
        "occurred_at": about.moment,
        "reasons": about.lines(locale),
    }


def _plain(words: Words) -> Letter:
    return letters.Plain(subject=words.title, paragraphs=tuple(line[:LONGEST_PARAGRAPH] for line in words.lines))
