"""A letter in its reader's words: subject, text and HTML, from the templates in `templates/mail`."""

import re
from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined, Template, select_autoescape

from consumers.mail.compose.css import Templates
from consumers.mail.compose.translations import callables
from schemas.emails import LETTERS, Email
from schemas.locale import LOCALES, Locale
from templates.filters import filters
from templates.translations import match_locale

BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True, slots=True)
class Site:
    """Whom letters come from: the name that readers know, its address on the web, and the `From` of its mail."""

    name: str
    url: str
    sender: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A letter as it is read; `locale` is the language that it is in."""

    subject: str
    text: str
    html: str
    locale: Locale


@dataclass(frozen=True, slots=True)
class _Parts:
    subject: Template
    text: Template
    html: Template


class Emails:
    """Every letter in every language, its templates compiled; made once, for `timezone` is where its readers live."""

    def __init__(self, site: Site, timezone: str) -> None:
        environments = {locale: _environment(site, timezone, locale) for locale in LOCALES}
        self._parts = {
            (name, locale): _parts(environment, name)
            for locale, environment in environments.items()
            for name in LETTERS
        }

    def render(self, letter: Email, locale: str, *, unsubscribe_url: str | None = None) -> Rendered:
        """The letter in this language, or in Ukrainian where we do not have it.

        Raises:
            jinja2.UndefinedError: when a template names what its letter does not have; tests render them all.
        """
        language = match_locale(locale)
        parts = self._parts[letter.name, language]
        subject = " ".join(parts.subject.render(letter=letter).split())
        facts = {"letter": letter, "subject": subject, "unsubscribe_url": unsubscribe_url}
        text = BLANK_LINES.sub("\n\n", parts.text.render(facts)).strip() + "\n"
        return Rendered(subject, text, parts.html.render(facts), language)


def _parts(environment: Environment, name: str) -> _Parts:
    subject, text, html = (
        environment.get_template(f"{name}/{file}") for file in ("subject.txt", "body.txt", "body.html")
    )
    return _Parts(subject, text, html)


def _environment(site: Site, timezone: str, locale: Locale) -> Environment:
    """One per language, so that neither catalogue nor filters are looked for while a letter waits."""
    environment = Environment(
        loader=Templates(),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.newstyle_gettext = True  # type: ignore[attr-defined]  # which the extension has added
    environment.filters.update(filters(locale, timezone))
    environment.globals.update(callables(locale), site=site, locale=locale)
    return environment
