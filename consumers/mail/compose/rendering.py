"""Render emails in the recipient's language, from the templates in `templates/mail`."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from jinja2 import BytecodeCache, Environment, StrictUndefined, Template, pass_eval_context, select_autoescape
from jinja2.bccache import Bucket
from jinja2.nodes import EvalContext
from markupsafe import Markup

from consumers.mail.compose.charts import charts_of
from consumers.mail.compose.css import TemplateLoader
from schemas.emails import EMAILS, Email
from schemas.locale import LOCALES, Locale
from templates.filters import filters
from templates.translations import match_locale, translations

BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class SiteIdentity:
    """The site that emails come from: its name, its URL, and the `From` of its emails."""

    name: str
    url: str
    sender: str


@dataclass(frozen=True, slots=True)
class RenderedEmail:
    """An email as it is read; `locale` is its language."""

    subject: str
    text: str
    html: str
    locale: Locale


class EmailRenderer:
    """Every email in every language, compiled at construction; `timezone` is that of the recipients."""

    def __init__(self, site: SiteIdentity, timezone: str) -> None:
        environments = {locale: _environment(site, timezone, locale) for locale in LOCALES}
        self._templates = {
            (name, locale): _templates(environment, name)
            for locale, environment in environments.items()
            for name in EMAILS
        }

    def render(self, email: Email, locale: str, *, unsubscribe_url: str | None = None) -> RenderedEmail:
        """Render an email in this language, or in the default one where it is not supported.

        Raises:
            jinja2.UndefinedError: when a template uses a fact that the email lacks; tests render all of them.
        """
        language = match_locale(locale)
        subject_template, text_template, html_template = self._templates[email.name, language]
        subject = " ".join(subject_template.render(email=email).split())
        facts = {"email": email, "subject": subject, "unsubscribe_url": unsubscribe_url}
        text = BLANK_LINES.sub("\n\n", text_template.render(facts)).strip() + "\n"
        return RenderedEmail(subject, text, html_template.render(facts), language)


class CompiledTemplates(BytecodeCache):
    """Compiled templates, shared by the environments of all languages."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load a template's code, if it was compiled before."""
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Store a template's code."""
        assert bucket.code is not None  # noqa: S101
        self._code[bucket.key, bucket.checksum] = bucket.code


COMPILED = CompiledTemplates()


def _templates(environment: Environment, name: str) -> tuple[Template, Template, Template]:
    subject, text, html = (
        environment.get_template(f"{name}/{file}") for file in ("subject.txt", "body.txt", "body.html")
    )
    return subject, text, html


def _environment(site: SiteIdentity, timezone: str, locale: Locale) -> Environment:
    """Make the environment of one language, so that nothing is looked up by language per email."""
    environment = Environment(
        loader=TemplateLoader(),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        bytecode_cache=COMPILED,
        optimized=False,  # else filters of one language are applied to constants at compile time
        extensions=["jinja2.ext.i18n"],
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.newstyle_gettext = True  # type: ignore[attr-defined]  # the extension adds it
    environment.filters.update(filters(locale, timezone))
    charts = functools.partial(charts_of, locale=locale)
    environment.globals.update(_gettext_functions(locale), site=site, locale=locale, charts=charts)
    return environment


def _gettext_functions(locale: Locale) -> dict[str, Callable[..., str]]:
    """Return `gettext` (also as `_`) and `ngettext` in Jinja's "newstyle": they take the facts of a text.

    In HTML, texts are markup and facts are escaped. Jinja's own functions look up each text again for each email, which
    took two fifths of the rendering time.
    """
    catalogue = translations(locale)

    @functools.cache  # bounded by the number of texts in templates
    def text_of(message: str, is_html: bool) -> str:  # noqa: FBT001  positional for the cache
        translated = catalogue.gettext(message)
        return Markup(translated) if is_html else translated  # noqa: S704  catalogues are part of the project

    @functools.cache
    def plain_text_of(message: str, is_html: bool) -> str:  # noqa: FBT001
        return text_of(message, is_html) % {}

    @pass_eval_context
    def gettext(context: EvalContext, message: str, /, **facts: Any) -> str:
        return text_of(message, context.autoescape) % facts if facts else plain_text_of(message, context.autoescape)

    @pass_eval_context
    def ngettext(context: EvalContext, singular: str, plural: str, count: int, /, **facts: Any) -> str:
        translated = catalogue.ngettext(singular, plural, count)
        return (Markup(translated) if context.autoescape else translated) % {"num": count, **facts}  # noqa: S704

    return {"_": gettext, "gettext": gettext, "ngettext": ngettext}
