"""The functions through which templates of emails translate; the texts are in `templates/locale`."""

import functools
from collections.abc import Callable
from typing import Any

from jinja2 import pass_eval_context
from jinja2.nodes import EvalContext
from markupsafe import Markup

from schemas.locale import Locale
from templates.translations import translations


def callables(locale: Locale) -> dict[str, Callable[..., str]]:
    """`gettext` (also as `_`) and `ngettext` for templates, as Jinja's "newstyle" ones: words with facts in them.

    In HTML the words are markup and the facts are escaped. Jinja's own ask the catalogue anew for each letter, through
    three calls of its context, and took two fifths of a letter's time.
    """
    catalogue = translations(locale)

    @functools.cache  # as many as there are words in templates
    def words(text: str, is_html: bool) -> str:  # noqa: FBT001  a cache tells them apart by position
        translated = catalogue.gettext(text)
        return Markup(translated) if is_html else translated  # noqa: S704  the catalogue is ours

    @functools.cache
    def words_alone(text: str, is_html: bool) -> str:  # noqa: FBT001
        return words(text, is_html) % {}

    @pass_eval_context
    def translate(context: EvalContext, text: str, /, **facts: Any) -> str:
        return words(text, context.autoescape) % facts if facts else words_alone(text, context.autoescape)

    @pass_eval_context
    def translate_counted(context: EvalContext, one: str, many: str, count: int, /, **facts: Any) -> str:
        translated = catalogue.ngettext(one, many, count)
        return (Markup(translated) if context.autoescape else translated) % {"num": count, **facts}  # noqa: S704

    return {"_": translate, "gettext": translate, "ngettext": translate_counted}
