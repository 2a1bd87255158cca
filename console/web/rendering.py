"""Pages from the templates of `templates/web`: escaped, and whole or, for a request of htmx, their content only."""

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from console.web import flash
from console.web.access import Identity
from console.web.resources import resources_of
from pocketwatch.clock import utc_now
from pocketwatch.text import printable, shorten

STATIC = Path(__file__).parent / "static"
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "pocketwatch_theme"
CELL = re.compile(r'<(?P<name>tr|td|th)\b(?= colspan="(?P<span>\d+)")?')

# Statuses of runs, states of fires, emails and queues: which colour their badge has.
TONES: Mapping[str, str] = {
    **dict.fromkeys(("succeeded", "sent", "delivered", "ok", "on", "approved", "healthy", "published"), "good"),
    **dict.fromkeys(("partial", "warning", "skipped", "unknown", "suppressed", "expired", "paused", "held"), "warn"),
    **dict.fromkeys(("failed", "rejected", "dead", "problem", "missed", "gone", "late", "bounced", "unhealthy"), "bad"),
    **dict.fromkeys(("running", "sending", "waiting", "open", "starting", "stopping"), "live"),
    # Decisions about ads.
    "approve": "good",
    "needs_edit": "warn",
    "review": "live",
    "reject": "bad",
    "max_attempts_reached": "bad",
}


def render(request: Request, template: str, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """Render a page that extends `web/layout.html`.

    A request of htmx that refreshes a part of a page gets its block `content` only.
    """
    is_part = request.headers.get("hx-request") == "true" and request.headers.get("hx-boosted") != "true"
    values = {**_values(request), "is_part": is_part, "flash": None if is_part else flash.read(request), **context}
    values["ui"] = environment().get_template("web/macros.html").make_module(values)
    response = HTMLResponse(environment().get_template(template).render(values), status_code=status_code)
    if values["flash"] is not None:
        flash.forget(response)
    return response


def _values(request: Request) -> dict[str, Any]:
    resources = resources_of(request)
    identity: Identity | None = getattr(request.state, "identity", None)
    theme = request.cookies.get(THEME_COOKIE, THEMES[0])
    return {
        "request": request,
        "identity": identity,
        "is_operator": identity is not None and identity.is_operator,
        "csrf_token": "" if identity is None else resources.access.csrf_token(identity.session),
        "theme": theme if theme in THEMES else THEMES[0],
        "zone": ZoneInfo(resources.settings.site.timezone),
        "now": utc_now(),
        "path": request.url.path,
        "here": here(request),
    }


def here(request: Request) -> str:
    """Return the address of a page within the console."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


@functools.cache
def environment() -> Environment:
    made = Environment(
        loader=PackageLoader("templates", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_fit_for_page,
    )
    made.filters |= {
        "local": _local,
        "utc": _utc,
        "duration": duration,
        "age": age,
        "tone": lambda word: TONES.get(str(word), "plain"),
        "shorten": shorten,
        "pairs": pairs,
        "flat": lambda value: {} if value is None else {name: as_text(each) for name, each in pairs(value)},
        "json": _as_json,
        "text": as_text,
        "labelled": labelled,
        "plural": lambda number, noun: f"{_grouped(number)} {noun}{'' if number == 1 else 's'}",
        "parsed": _parsed,
        "prose": prose,
        "count": _grouped,
    }
    made.globals |= {"static": static_url, "query": _query}
    return made


def _fit_for_page(value: Any) -> Any:
    """Escape control characters, and direction marks that reorder what is read, in all that a template prints."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return "" if value is None else value


@functools.cache
def static_url(name: str) -> str:
    """Return the address of a file of `static`, which changes with its content."""
    version = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={version}"


@pass_context
def _local(context: Context, value: datetime, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return value.astimezone(context["zone"]).strftime(form)


def _utc(value: datetime, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    return value.astimezone(UTC).strftime(form)


@pass_context
def _query(context: Context, **changes: Any) -> str:
    """Return the query string of this page with some parameters replaced, or removed by None."""
    kept = [(name, value) for name, value in context["request"].query_params.multi_items() if name not in changes]
    added = [(name, str(value)) for name, value in changes.items() if value is not None]
    return f"?{urlencode([*kept, *added])}"


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", "\u202f")


def _parsed(value: object) -> datetime | None:
    """Read a time that a header has brought; None where there is none."""
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def labelled(rows: Markup, columns: Sequence[str | Sequence[str]]) -> Markup:
    """Give each cell of a table's rows the heading of its column, which is shown where a row is a card."""
    headings = [escape(each if isinstance(each, str) else each[0]) for each in columns]
    position = 0

    def label(tag: re.Match[str]) -> str:
        nonlocal position
        if tag["name"] == "tr":
            position = 0
            return tag[0]
        heading = headings[position] if position < len(headings) else ""
        position += int(tag["span"] or 1)
        return f'{tag[0]} data-label="{heading}"'

    return Markup(CELL.sub(label, rows))  # noqa: S704  of escaped parts


def prose(text: str) -> Markup:
    """Return a docstring with its `names` as code."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(printable(part))
        for number, part in enumerate(text.split("`"))
    )


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))  # seconds
TWO_DIGITS = 10


def duration(value: timedelta | float | None) -> str:
    """Format a duration in the two largest units, such as `2 h 5 min` or `0.42 s`."""
    if value is None:
        return ""
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        return f"\u2212{duration(-seconds)}"
    if seconds < TWO_DIGITS:
        return f"{seconds:.2f} s"
    rest, parts = round(seconds), list[str]()
    for length, unit in UNITS:
        if rest >= length or parts:
            parts.append(f"{rest // length} {unit}")
            rest %= length
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


@pass_context
def age(context: Context, value: datetime | None) -> str:
    """Format how long ago a moment was, or how far ahead it is, such as `5 min ago` or `in 2 h`."""
    if value is None:
        return ""
    seconds = (context["now"] - value).total_seconds()
    largest = duration(float(round(abs(seconds)))).split(" ")
    shown = "now" if abs(seconds) < 1 else f"{largest[0].removesuffix('.00')} {largest[1]}"
    return shown if shown == "now" else f"{shown} ago" if seconds > 0 else f"in {shown}"


def as_text(value: Any) -> str:
    """Return a value of JSON as people write it: a text without quotes, a list of texts with commas."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value) and value:
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def pairs(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Flatten nested statistics or arguments to names and values."""
    if not isinstance(value, Mapping):
        return [(prefix.rstrip("."), value)]
    return [pair for name, each in value.items() for pair in pairs(each, f"{prefix}{name}.")]
