"""Which letter a notice becomes. Where none of its own fits, it has the words of the info table."""

from typing import Any
from urllib.parse import quote

from consumers.moderation.notices.actions import News
from consumers.moderation.notices.messages import Words, managers_lines, owners_lines
from consumers.moderation.notices.notice import MOST_LINES, About
from pocketwatch.settings import Site
from schemas import emails
from schemas.emails import Email
from schemas.locale import Locale

MOST_PARAGRAPHS = 50
IN_A_PATH = "/?=&#%~:+,;@!$'()*"


def to_owner(about: About, news: News, words: Words, locale: Locale, site: Site) -> Email:
    """The letter to the owner of the ad."""
    if about.ad_id is None or news == "user_banned" or news == "content_violation":  # noqa: PLR1714  mypy narrows it
        return _plain(about, words)
    facts = _facts(about, about.ad_id, site.url, site.ad_path)
    facts["reasons"] = owners_lines(about, locale)[:MOST_LINES]
    most: dict[str, Any] = {} if about.data.max_attempts is None else {"max_attempts": about.data.max_attempts}
    match news:
        case "approved":
            return emails.AdApproved(**facts)
        case "rejected":
            return emails.AdRejected(**facts, **most, attempts_left=about.attempts_left)
        case "needs_edit":
            return emails.AdNeedsEdit(**facts, **most, attempts_left=about.attempts_left)
        case "max_attempts":
            return emails.AdMaxAttempts(**facts, **most)
    return emails.AdStatusChanged(**facts, status=news)


def to_manager(about: About, words: Words, locale: Locale, site: Site) -> Email:
    """The letter to a manager."""
    if about.ad_id is None:
        return _plain(about, words)
    data, facts = about.data, _facts(about, about.ad_id, site.url, site.admin_ad_path)
    facts |= {"user_id": about.user_id, "categories": about.categories}
    facts["reasons"] = managers_lines(about, locale)[:MOST_LINES]
    match data.action:
        case "needs_review":
            return emails.ManagerReviewRequired(**facts)
        case "flagged":
            facts["reasons"] = [*about.listed(locale), *about.reasons][:MOST_LINES]
            return emails.ManagerAdFlagged(**facts, suggestions=about.suggestions)
        case "max_attempts_reached":
            most: dict[str, Any] = {} if data.max_attempts is None else {"max_attempts": data.max_attempts}
            return emails.ManagerMaxAttempts(**facts, **most, attempts=data.attempts_count)
    who = None if data.moderated_by_id is None else f"#{data.moderated_by_id}"
    return emails.ManagerAdEvent(**facts, action=data.action, status=data.status, moderated_by=who)


def _facts(about: About, ad_id: int, site: str, path: str) -> dict[str, Any]:
    """What every letter about an ad says."""
    return {
        "ad_id": ad_id,
        "ad_title": about.ads.title(ad_id),
        "occurred_at": about.moment,
        "link": site.rstrip("/") + quote(path.replace("{ad_id}", str(ad_id)), safe=IN_A_PATH),
    }


def _plain(about: About, words: Words) -> Email:
    """A notice may say no more than its title."""
    paragraphs = [line for line in words.lines[:MOST_PARAGRAPHS] if line.strip()] or [words.title]
    return emails.Plain(subject=words.title, paragraphs=paragraphs, occurred_at=about.moment)
