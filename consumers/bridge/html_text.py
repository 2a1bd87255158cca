"""Convert plain text and HTML to the paragraphs of an email.

The tokenizer replaces a library: `html.parser`, and html2text on top of it, need 35 s and more for 60 KB of unclosed
tags, and inscriptis (lxml) drops text nested deeper than 254 elements. Each alternative of `TOKEN` extends to the end
of the text if its own end is missing, so nothing is scanned twice.
"""

import re
from html import unescape

MAX_LENGTH = 10_000  # characters of a paragraph
MAX_PARAGRAPHS = 50
BULLET = "• "
BLOCKS = {
    *("address", "article", "blockquote", "body", "center", "dd", "div", "dl", "dt", "fieldset", "footer", "form"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section"),
    *("table", "tbody", "tfoot", "thead", "tr", "ul"),
}
SPACED = {"br": "\n", "td": " ", "th": " "}
TOKEN = re.compile(
    r"""<!--.*?(?:-->|\Z)
      | <(script|style|template|title)(?=[\s/>]).*?(?:</\1[^>]*(?:>|\Z)|\Z)
      | <(?P<end>/?)(?P<tag>[a-z][^\s/>]*+)
         (?P<attributes>(?:[^>=]++|=\s*+(?:"[^"]*+(?:"|\Z)|'[^']*+(?:'|\Z))|=)*+)(?:>|\Z)
      | <[!?/][^>]*+(?:>|\Z)
      | (?P<text>[^<]++|<)""",
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
LONG_NUMBER = re.compile("&#[0-9]{20,}+;?")  # no character, and too long to be read as an integer
HREF = re.compile(r"""(?:^|[\s/"'])href\s*+=\s*+(?:"([^"]*+)|'([^']*+)|([^\s>"']++))""", re.IGNORECASE)


def text_paragraphs(text: str) -> list[str]:
    """Split a text at its empty lines, into pieces that a `Plain` email accepts."""
    parts = re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _fit([part.strip("\n").rstrip() for part in parts if part.strip()])


def html_paragraphs(html: str) -> list[str]:
    """Return the visible text block by block, each link followed by its address."""
    parts: list[str] = []
    address, begin = "", 0  # of the open link, and where its text begins
    for token in TOKEN.finditer(html):
        tag = (token["tag"] or "").lower()
        if token["text"]:
            parts.append(re.sub(r"\s+", " ", _unescaped(token["text"])))
        elif tag == "a":
            parts.append(_link_suffix(address, "".join(parts[begin:])))
            address, begin = "" if token["end"] else _address(token["attributes"]), len(parts)
        elif tag in SPACED and not token["end"]:
            parts.append(SPACED[tag])
        elif tag in BLOCKS:
            parts.append("\n\n" + BULLET * (tag == "li" and not token["end"]))
            begin = len(parts)
    parts.append(_link_suffix(address, "".join(parts[begin:])))
    lines = re.sub(" ?\n ?", "\n", re.sub(" +", " ", "".join(parts)))
    return text_paragraphs(re.sub(rf"(?m)^{BULLET.strip()} ?$", "", lines).strip(" "))


def _unescaped(text: str) -> str:
    return unescape(LONG_NUMBER.sub("\ufffd", text))


def _address(attributes: str) -> str:
    """Return the link's address, or nothing for one that a reader cannot use, such as `javascript:`."""
    match = HREF.search(attributes)
    address = _unescaped(next(filter(None, match.groups()), "")).strip() if match else ""
    return address if re.match(r"(?i)https?://|mailto:", address) else ""


def _link_suffix(address: str, text: str) -> str:
    shown = address.removeprefix("mailto:")
    if not shown or shown == text.strip():
        return ""
    return f" ({shown})" if text.strip() else shown


def _fit(paragraphs: list[str]) -> list[str]:
    """Cut long paragraphs, and join neighbours when there are more than an email may hold."""
    pieces = [piece for paragraph in paragraphs for piece in _cut(paragraph)]
    if len(pieces) <= MAX_PARAGRAPHS:
        return pieces
    packed = pieces[:1]
    for piece in pieces[1:]:
        if len(packed[-1]) + len("\n\n") + len(piece) <= MAX_LENGTH:
            packed[-1] += f"\n\n{piece}"
        else:
            packed.append(piece)
    return packed


def _cut(paragraph: str) -> list[str]:
    pieces = re.findall(rf"(?s)(?:.{{1,{MAX_LENGTH}}}(?:\s|$)|.{{{MAX_LENGTH}}})", paragraph)
    return [piece.strip() for piece in pieces if piece.strip()]
