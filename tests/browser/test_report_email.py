"""The report email in a browser: phone and desktop, in three languages."""

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from consumers.analytics.report.daily_report import email_of
from consumers.analytics.report.figures import Report
from consumers.mail.compose import images
from consumers.mail.compose.rendering import EmailRenderer
from consumers.mail.compose.samples import UNSUBSCRIBE
from schemas.locale import LOCALES

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = (360, 800)
HEIGHT = 2600
DARK, PALE = (26, 95, 180), (185, 203, 226)  # the tones of the bars
# A window of Chromium is at least 500 pixels wide, so the email is measured in a frame.
PAGE = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><pre id="found"></pre>
<iframe id="email" src="email.html" style="border:0;width:{width}px;height:{height}px"></iframe>
<script>
window.onload = () => {{
  const page = document.getElementById("email").contentDocument;
  const right = [...page.querySelectorAll("body *")].map(one => Math.ceil(one.getBoundingClientRect().right));
  const images = [...page.images].map(one => [one.alt, one.complete ? one.naturalWidth : 0, one.clientWidth]);
  const found = {{width: page.documentElement.clientWidth, scroll: page.documentElement.scrollWidth,
    right: Math.max(...right), images: images, text: page.body.innerText}};
  document.getElementById("found").textContent = JSON.stringify(found);
}};
</script>"""


@dataclass
class Browser:
    """Opens emails in Chromium."""

    folder: Path

    def opens(self, html: str, width: int) -> dict[str, Any]:
        """Return the dimensions, images and text of an email in a window of this width."""
        (self.folder / "email.html").write_text(html, encoding="utf-8")
        page = self.folder / "page.html"
        page.write_text(PAGE.format(width=width, height=HEIGHT), encoding="utf-8")
        dom = self._run("--virtual-time-budget=10000", "--dump-dom", page.as_uri())
        found = re.search(r'<pre id="found">(.+?)</pre>', dom, re.DOTALL)
        assert found, dom[:2000]
        return json.loads(unescape(found[1]))

    def screenshot(self, html: str, width: int) -> Image.Image:
        (self.folder / "email.html").write_text(html, encoding="utf-8")
        file = self.folder / "email.png"
        size = f"--window-size={width},{HEIGHT}"
        self._run(size, f"--screenshot={file}", (self.folder / "email.html").as_uri())
        with Image.open(file) as image:
            return image.convert("RGB")

    def _run(self, *arguments: str) -> str:
        found = next(filter(None, map(shutil.which, PROGRAMS)), None)
        assert found, f"a browser is needed, one of {', '.join(PROGRAMS)}; install it: apt-get install chromium"
        options = (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--allow-file-access-from-files",
        )
        command = [found, *options, f"--user-data-dir={self.folder / 'profile'}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
        return done.stdout


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    return Browser(tmp_path)


Written = Callable[[Report, str], str]


@pytest.fixture
def written(renderer: EmailRenderer) -> Written:
    """Render the HTML of a report, with inlined images."""

    def write(report: Report, locale: str) -> str:
        email = email_of(report)
        html = renderer.render(email, locale, unsubscribe_url=UNSUBSCRIBE).html
        return images.inline(html, images.images_of(email, locale))

    return write


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("locale", LOCALES)
def test_email_fits_its_window_and_shows_all_charts(browser, written, busy_report, locale, width):
    found = browser.opens(written(busy_report, locale), width)

    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["right"] <= width
    assert [natural for _, natural, _ in found["images"]] == [1120, 1120, 1120]
    assert all(alt and width / 2 < shown <= 560 for alt, _, shown in found["images"])


@pytest.mark.parametrize(
    ("locale", "words"),
    [
        ("uk", ["Звіт за 19 листопада 2026", "Чого бракує", "Нові оголошення", "Без успіху", "44,6395", "Відписатися"]),
        ("en", ["Report for November 19, 2026", "What is missing", "New ads", "Given up", "44.6395", "Unsubscribe"]),
        (
            "ru",
            ["Отчёт за 19 ноября 2026", "Чего не хватает", "Новые объявления", "Без успеха", "44,6395", "Отписаться"],
        ),
    ],
)
def test_texts_are_visible(browser, written, busy_report, locale, words):
    text = browser.opens(written(busy_report, locale), 800)["text"]

    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("locale", LOCALES)
def test_charts_are_drawn(browser, written, busy_report, locale):
    image = browser.screenshot(written(busy_report, locale), 800)

    tones = Counter(image.get_flattened_data())
    assert image.width == 800
    assert tones[DARK] > 5000
    assert tones[PALE] > 5000


@pytest.mark.parametrize("locale", LOCALES)
def test_report_without_figures_shows_no_chart(browser, written, unknown_report, locale):
    found = browser.opens(written(unknown_report, locale), 360)

    assert found["images"] == []
    assert found["scroll"] <= 360
    assert "?" not in found["text"]
