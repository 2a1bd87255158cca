"""Paragraphs: the words of a text or of a piece of HTML, for letters that escape everything."""

import re
from html.parser import HTMLParser

# What a letter of somebody else's words may hold.
LONGEST = 10_000  # characters of a paragraph
MOST = 50  # paragraphs
NOT_SHOWN = {"script", "style", "template", "title"}
BLOCKS = {
    *("address", "article", "blockquote", "body", "center", "dd", "div", "dl", "dt", "fieldset", "footer", "form"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section"),
    *("table", "tbody", "tfoot", "thead", "tr", "ul"),
}


def of_text(text: str) -> list[str]:
    """Its paragraphs, between empty lines, in a form that a letter can hold."""
    parts = re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _fitting([part.strip("\n").rstrip() for part in parts if part.strip()])


def of_html(html: str) -> list[str]:
    """What a reader sees of it, block by block; links keep their addresses."""
    reading = Words()
    reading.feed(html)
    reading.close()
    reading.end_block()
    return _fitting(reading.paragraphs)


def _fitting(paragraphs: list[str]) -> list[str]:
    """None too long, and when they are too many, several together."""
    pieces = [piece for paragraph in paragraphs for piece in _cut(paragraph)]
    if len(pieces) <= MOST:
        return pieces
    packed = pieces[:1]
    for piece in pieces[1:]:
        if len(packed[-1]) + len("\n\n") + len(piece) <= LONGEST:
            packed[-1] += f"\n\n{piece}"
        else:
            packed.append(piece)
    return packed


def _cut(paragraph: str) -> list[str]:
    """In pieces that fit, cut between words where there are any."""
    pieces = re.findall(rf"(?s)(?:.{{1,{LONGEST}}}(?:\s|$)|.{{{LONGEST}}})", paragraph)
    return [piece.strip() for piece in pieces if piece.strip()]


class Words(HTMLParser):
    """Collects the words."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.paragraphs: list[str] = []
        self._words: list[str] = []
        self._hidden: list[str] = []
        self._link: tuple[str, int] | None = None  # address, and where its text begins; links hold no links

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in NOT_SHOWN:
            self._hidden.append(tag)
        elif tag == "br":
            self._words.append("\n")
        elif tag == "a":
            self._end_link()
            self._link = dict(attrs).get("href") or "", len(self._words)
        elif tag in {"td", "th"}:
            self._words.append(" ")
        elif tag in BLOCKS:
            self.end_block()
            self._words.extend(["• "] if tag == "li" else [])

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        elif tag == "a":
            self._end_link()
        elif tag in BLOCKS:
            self.end_block()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._words.append(re.sub(r"\s+", " ", data))

    def _end_link(self) -> None:
        if self._link is None:
            return
        (address, begin), self._link = self._link, None
        text = "".join(self._words[begin:]).strip()
        shown = address.removeprefix("mailto:")
        if re.match(r"(?i)https?://|mailto:", address) and shown != text:
            self._words.append(f" ({shown})" if text else shown)

    def end_block(self) -> None:
        """What was collected is a paragraph."""
        lines = (re.sub(r"[ \t]+", " ", line).strip() for line in "".join(self._words).split("\n"))
        text = "\n".join(lines).strip()
        self._words, self._link = [], self._link and (self._link[0], 0)
        if text not in {"", "•"}:
            self.paragraphs.append(text)
