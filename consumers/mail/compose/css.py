"""Templates as they are on disk, with the style sheet written into the HTML ones when they are loaded.

Programs that show letters drop style sheets, so each element needs its own `style`. Done to a template once, that costs
nothing per letter. What is between the braces of Jinja is hidden from the HTML parser meanwhile: as a word, or as a
comment where a statement has a line of its own, because the parser moves words out of a table, from between its rows.

What Jinja calls from an HTML template it takes for HTML, even a macro of a text template that has escaped nothing. So
the words that both parts of a letter share, `words.txt`, are loaded a second time as `words.html`, where facts are
escaped.
"""

import re
from collections.abc import Callable

import css_inline
from jinja2 import BaseLoader, Environment, PackageLoader

STYLES = "_base/letter.css"
WORDS, WORDS_IN_HTML = "words.txt", "words.html"
COMMENT = re.compile(r"{#.*?#}\n?", re.DOTALL)
CODE = re.compile(r"{%-?\s*trans\b.*?\bendtrans\s*-?%}|{%.*?%}|{{.*?}}", re.DOTALL)
OWN_LINE = re.compile(r"^[ \t]*({%(?!-?\s*trans\b)[^\n]*?%})[ \t]*$", re.MULTILINE)
HIDDEN = re.compile(r"<!--jinja-(\d+)-code-->|jinja-(\d+)-code")

Source = tuple[str, str | None, Callable[[], bool] | None]


class Templates(BaseLoader):
    """The templates of the package `templates`, folder `mail`; those that end in `.html` come with their styles.

    There is no file `words.html`: it is `words.txt`, for HTML templates.
    """

    def __init__(self) -> None:
        self._files = PackageLoader("templates", "mail")

    def get_source(self, environment: Environment, template: str) -> Source:
        """The source of one template, see `jinja2.BaseLoader`."""
        folder, _, name = template.rpartition("/")
        if name == WORDS_IN_HTML:
            return self._files.get_source(environment, f"{folder}/{WORDS}")
        source, path, is_fresh = self._files.get_source(environment, template)
        if not template.endswith(".html"):
            return source, path, is_fresh
        styles, _, _ = self._files.get_source(environment, STYLES)
        return styled(source, styles), path, is_fresh

    def list_templates(self) -> list[str]:
        """The names of all of them, the style sheet left out."""
        return [name for name in self._files.list_templates() if name.endswith((".html", ".txt"))]


def styled(source: str, styles: str) -> str:
    """The template with the rules of the style sheet in `style` attributes; what a `<style>` element holds stays there.

    A whole document begins with its doctype. Comments go; nothing else outside of tags changes.
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
