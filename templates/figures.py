"""The names of the daily report's figures, in each language."""

import functools
from collections.abc import Mapping

from schemas.emails import FigureName
from schemas.locale import Locale
from templates.translations import translations


@functools.cache
def figure_labels(locale: Locale) -> Mapping[FigureName, str]:
    texts = translations(locale)
    return {
        "views": texts.pgettext("figure", "Views"),
        "new_ads": texts.pgettext("figure", "New ads"),
        "new_users": texts.pgettext("figure", "New users"),
        "decisions_approve": texts.pgettext("figure", "Approved"),
        "decisions_needs_edit": texts.pgettext("figure", "Sent back to be changed"),
        "decisions_reject": texts.pgettext("figure", "Rejected"),
        "decisions_review": texts.pgettext("figure", "Left to a person"),
        "decisions_max_attempts": texts.pgettext("figure", "Attempts used up"),
        "letters_sent": texts.pgettext("figure", "Emails sent"),
        "letters_failed": texts.pgettext("figure", "Emails failed"),
    }
