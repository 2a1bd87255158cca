"""The languages of letters: the catalogues in `templates/locale`, compiled in memory; English is in the templates."""

import functools
import gettext
import io
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Literal, get_args

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from jinja2 import pass_eval_context
from jinja2.nodes import EvalContext
from markupsafe import Markup

Locale = Literal["uk", "en", "ru"]

LOCALES: tuple[Locale, ...] = get_args(Locale)
SOURCE: Locale = "en"
DEFAULT: Locale = "uk"


def known(locale: str) -> Locale:
    """The language that is meant by `ru`, `ru-UA` or `ru_RU`; Ukrainian, the site's own, where we do not have it."""
    language = locale.replace("_", "-").partition("-")[0].lower()
    return next((one for one in LOCALES if one == language), DEFAULT)


def callables(locale: Locale) -> dict[str, Callable[..., str]]:
    """`gettext` (also as `_`) and `ngettext` for templates, as Jinja's "newstyle" ones: words with facts in them.

    In HTML the words are markup and the facts are escaped. Jinja's own ask the catalogue anew for each letter, through
    three calls of its context, and took two fifths of a letter's time.
    """
    catalogue = _translations(locale)

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


def _translations(locale: Locale) -> gettext.NullTranslations:
    if locale == SOURCE:
        return gettext.NullTranslations()
    po = files("templates") / "locale" / locale / "LC_MESSAGES" / "letters.po"
    mo = io.BytesIO()
    with po.open("rb") as source:
        write_mo(mo, read_po(source, locale=locale))
    mo.seek(0)
    return gettext.GNUTranslations(mo)
