"""The images that go with a letter, from the report's charts to the parts of a message."""

import base64
from datetime import date
from email.parser import BytesParser
from email.policy import default

import pytest
from pydantic import ValidationError

from consumers.mail.compose import images as pictures
from consumers.mail.compose import mime
from consumers.mail.compose.headers import message_id
from consumers.mail.compose.samples import (
    AT,
    PICTURE,
    READER,
    SITE,
)
from schemas.emails import DailyReport, ReportChart

JPEG = base64.b64encode(b"\xff\xd8\xff\xe0 no PNG").decode()


def test_each_image_that_the_html_shows_is_in_the_message_and_none_besides(letters, sample):
    letter = sample("daily_report")
    rendered = letters.render(letter, "en")

    raw = mime.build(
        rendered,
        sender=SITE.sender,
        to=READER,
        message_id=message_id("key", "cars.example"),
        date=AT,
        unsubscribe_url=None,
        attachments=pictures.of(letter),
    )

    message = BytesParser(policy=default).parsebytes(raw)
    images = {part["Content-ID"]: part for part in message.walk() if part.get_content_type() == "image/png"}
    html = message.get_body(("html",)).get_content()
    assert not message.defects
    assert list(images) == ["<views>"]
    assert html.count("cid:") == 1
    assert 'src="cid:views"' in html
    assert images["<views>"].get_content() == base64.b64decode(PICTURE)


def test_other_letters_have_no_images(sample):
    assert pictures.of(sample("ad_approved")) == []


def test_a_browser_sees_the_images_in_the_html(letters, sample):
    letter = sample("daily_report")

    html = pictures.inlined(letters.render(letter, "uk").html, letter)

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
def test_a_chart_that_could_not_be_sent_is_refused(facts):
    sound = {"content_id": "views", "alt": "Views: 12", "png": PICTURE}
    assert ReportChart(**sound)

    with pytest.raises(ValidationError):
        ReportChart(**(sound | facts))


def test_a_report_without_figures_has_a_subject_that_says_no_number(letters):
    rendered = letters.render(DailyReport(occurred_at=AT, day=date(2001, 2, 3), figures=[]), "en")

    assert rendered.subject == "Report for February 3, 2001"
    assert "No figures are known of this day." in rendered.text


def test_the_rows_of_a_table_stay_in_it(letters, sample):
    html = letters.render(sample("daily_report"), "en").html

    before_tables = html.partition("<table")[0]
    assert "Ads approved" not in before_tables
    assert html.count("<tr>") == html.count("</tr>") == 1 + 2 * 10 + 2 + 1 + 2 * 3
