"""Load templates, with the style sheet written into the `style` attributes of the HTML ones.

Email programs drop style sheets, so each element needs its own `style`; done once per template, that costs nothing per
email. Jinja's code is hidden from the HTML parser meanwhile: as a word, or as a comment where a statement has its own
line, because the parser moves text out of tables.

Macros that text and HTML share are in `macros.txt`. HTML templates import them as `macros.html`, the same source loaded
with escaping: Jinja treats what a text template's macro returns as safe HTML.
"""

import re
from collections.abc import Callable

import css_inline
from jinja2 import BaseLoader, Environment, PackageLoader

STYLES = "_base/email.css"
MACROS, HTML_MACROS = "macros.txt", "macros.html"
COMMENT = re.compile(r"{#.*?#}\n?", re.DOTALL)
CODE = re.compile(r"{%-?\s*trans\b.*?\bendtrans\s*-?%}|{%.*?%}|{{.*?}}", re.DOTALL)
OWN_LINE = re.compile(r"^[ \t]*({%(?!-?\s*trans\b)[^\n]*?%})[ \t]*$", re.MULTILINE)
HIDDEN = re.compile(r"<!--jinja-(\d+)-code-->|jinja-(\d+)-code")

Source = tuple[str, str | None, Callable[[], bool] | None]


class TemplateLoader(BaseLoader):
    """Loads `templates/mail`, with inlined styles in `.html` files; `macros.html` is `macros.txt`."""

    def __init__(self) -> None:
        self._files = PackageLoader("templates", "mail")

    def get_source(self, environment: Environment, template: str) -> Source:
        folder, _, name = template.rpartition("/")
        if name == HTML_MACROS:
            return self._files.get_source(environment, f"{folder}/{MACROS}")
        source, path, is_fresh = self._files.get_source(environment, template)
        if not template.endswith(".html"):
            return source, path, is_fresh
        styles, _, _ = self._files.get_source(environment, STYLES)
        return inline(source, styles), path, is_fresh

    def list_templates(self) -> list[str]:
        return [name for name in self._files.list_templates() if name.endswith((".html", ".txt"))]


def inline(source: str, styles: str) -> str:
    """Write the rules of a style sheet into `style` attributes; `<style>` elements stay, comments go.

    A whole document begins with its doctype; anything else is a fragment.
    """
    code: list[str] = []

    def hide(match: re.Match[str]) -> str:
        code.append(match[0])
        return f"jinja-{len(code) - 1}-code"

    def hide_line(match: re.Match[str]) -> str:
        return match[0] if match[1].count("%}") > 1 else f"<!--{hide(match)}-->"

    html = CODE.sub(hide, OWN_LINE.sub(hide_line, COMMENT.sub("", source)))
    if html.startswith("<!DOCTYPE"):
        inliner = css_inline.CSSInliner(
            extra_css=styles, inline_style_tags=False, keep_style_tags=True, load_remote_stylesheets=False
        )
        html = inliner.inline(html)
    else:
        html = css_inline.inline_fragment(html, styles, load_remote_stylesheets=False)
    return HIDDEN.sub(lambda match: code[int(match[1] or match[2])], html)
