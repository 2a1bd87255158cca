"""Images of emails, from a report's charts to the parts of a message."""

import json
import re
from base64 import b64encode
from datetime import date
from email.parser import BytesParser
from email.policy import default

import pytest
from pydantic import ValidationError

from consumers.mail.compose import images, mime
from consumers.mail.compose.headers import message_id
from consumers.mail.compose.samples import AT, RECIPIENT, SITE
from schemas.emails import DailyReportEmail, ReportDay

CHARTS = ["views", "people", "decisions"]


def test_message_contains_exactly_the_images_of_the_html(renderer, sample):
    email = sample("daily_report")
    rendered = renderer.render(email, "en")

    raw = mime.build(
        rendered,
        sender=SITE.sender,
        to=RECIPIENT,
        message_id=message_id("key", "cars.example"),
        date=AT,
        unsubscribe_url=None,
        attachments=images.images_of(email, "en"),
    )

    message = BytesParser(policy=default).parsebytes(raw)
    parts = {part["Content-ID"]: part for part in message.walk() if part.get_content_type() == "image/png"}
    html = message.get_body(("html",)).get_content()
    assert not message.defects
    assert list(parts) == [f"<{name}>" for name in CHARTS]
    assert re.findall('src="cid:([a-z]+)"', html) == CHARTS
    assert all(part.get_content().startswith(b"\x89PNG\r\n\x1a\n") for part in parts.values())


async def test_other_emails_have_no_images(sample):
    assert await images.load(sample("ad_approved"), "uk") == []


def test_images_are_inlined_for_browsers(renderer, sample):
    email = sample("daily_report")
    drawn = images.images_of(email, "uk")

    html = images.inline(renderer.render(email, "uk").html, drawn)

    assert "cid:" not in html
    assert re.findall('src="data:image/png;base64,([^"]+)"', html) == [
        b64encode(image.data).decode() for image in drawn
    ]


def test_message_of_an_earlier_version_keeps_the_charts_that_its_figures_give(renderer, sample):
    facts = sample("daily_report").model_dump(mode="json", exclude={"history"})
    chart = {"content_id": "views", "alt": "Перегляди: 12 345", "png": "iVBORw0KGgo="}

    email = DailyReportEmail.model_validate_json(json.dumps({**facts, "charts": [chart]}))

    assert [image.content_id for image in images.images_of(email, "uk")] == ["decisions"]
    assert re.findall('src="cid:([a-z]+)"', renderer.render(email, "uk").html) == ["decisions"]
    assert "charts" not in email.model_dump()


def test_history_holds_at_most_a_month():
    days = [ReportDay(day=AT.date()) for _ in range(32)]

    with pytest.raises(ValidationError):
        DailyReportEmail(day=AT.date(), figures=[], history=days)


def test_report_without_figures_has_a_subject_without_numbers(renderer):
    rendered = renderer.render(DailyReportEmail(occurred_at=AT, day=date(2001, 2, 3), figures=[]), "en")

    assert rendered.subject == "Report for February 3, 2001"
    assert "No figures are known of this day." in rendered.text


def test_table_rows_stay_in_their_table(renderer, sample):
    html = renderer.render(sample("daily_report"), "en").html

    before_tables = html.partition("<table")[0]
    assert "Ads approved" not in before_tables
    assert html.count("<tr>") == html.count("</tr>") == 1 + 2 * 10 + 2 + 1 + 2 * 3
