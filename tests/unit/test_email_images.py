"""Images of emails, from a report's charts to the parts of a message."""

import base64
from datetime import date
from email.parser import BytesParser
from email.policy import default

import pytest
from pydantic import ValidationError

from consumers.mail.compose import images, mime
from consumers.mail.compose.headers import message_id
from consumers.mail.compose.samples import (
    AT,
    PICTURE,
    RECIPIENT,
    SITE,
)
from schemas.emails import DailyReport, ReportChart

JPEG = base64.b64encode(b"\xff\xd8\xff\xe0 no PNG").decode()


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
        attachments=images.of(email),
    )

    message = BytesParser(policy=default).parsebytes(raw)
    attached = {part["Content-ID"]: part for part in message.walk() if part.get_content_type() == "image/png"}
    html = message.get_body(("html",)).get_content()
    assert not message.defects
    assert list(attached) == ["<views>"]
    assert html.count("cid:") == 1
    assert 'src="cid:views"' in html
    assert attached["<views>"].get_content() == base64.b64decode(PICTURE)


def test_other_emails_have_no_images(sample):
    assert images.of(sample("ad_approved")) == []


def test_images_are_inlined_for_browsers(renderer, sample):
    email = sample("daily_report")

    html = images.inlined(renderer.render(email, "uk").html, email)

    assert "cid:" not in html
    assert f'src="data:image/png;base64,{PICTURE}"' in html


@pytest.mark.parametrize(
    "facts",
    [
        {"png": JPEG},
        {"png": "no base64!"},
        {"png": "ж"},
        {"png": PICTURE + "A" * 60_000},
        {"content_id": "views>\r\nBcc: x@example.com"},
        {"content_id": ""},
        {"alt": " "},
    ],
)
def test_invalid_chart_is_rejected(facts):
    sound = {"content_id": "views", "alt": "Views: 12", "png": PICTURE}
    assert ReportChart(**sound)

    with pytest.raises(ValidationError):
        ReportChart(**(sound | facts))


def test_subject_of_a_report_without_figures(renderer):
    rendered = renderer.render(DailyReport(occurred_at=AT, day=date(2001, 2, 3), figures=[]), "en")

    assert rendered.subject == "Report for February 3, 2001"
    assert "No figures are known of this day." in rendered.text


def test_table_rows_stay_in_their_table(renderer, sample):
    html = renderer.render(sample("daily_report"), "en").html

    before_tables = html.partition("<table")[0]
    assert "Ads approved" not in before_tables
    assert html.count("<tr>") == html.count("</tr>") == 1 + 2 * 10 + 2 + 1 + 2 * 3
