"""Emails in messages: typed, without unknown fields, and free of what emails cannot contain."""

import json
from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from consumers.mail.compose.samples import AT, SAMPLES
from schemas.emails import (
    EMAILS,
    AdApprovedEmail,
    AdNeedsEditEmail,
    Email,
    PlainEmail,
)

adapter = TypeAdapter(Email)


@pytest.mark.parametrize("email", SAMPLES, ids=lambda email: email.name)
def test_email_survives_serialization(email):
    assert adapter.validate_json(adapter.dump_json(email)) == email


def test_every_email_has_a_sample():
    assert [email.name for email in SAMPLES] == list(EMAILS)


@pytest.mark.parametrize(
    "facts",
    [
        {"name": "ad_lost"},
        {"name": "ad_approved", "ad_titel": "typo"},
        {"ad_id": "1"},
        {"ad_id": -1},
        {"ad_title": "x" * 256},
        {"occurred_at": "2026-11-20T12:05:00"},
        {"reasons": ["x"] * 21},
        {"name": "ad_status_changed", "status": "approved"},
    ],
)
def test_invalid_email_is_rejected(facts):
    sound = {"name": "ad_approved", "ad_id": 1, "ad_title": "Lada", "occurred_at": "2026-11-20T12:05:00Z"}
    assert adapter.validate_json(json.dumps(sound)).name == "ad_approved"

    with pytest.raises(ValidationError):
        adapter.validate_json(json.dumps(sound | facts))


@pytest.mark.parametrize(
    "link",
    [
        "/ads/1",
        "javascript:alert(1)",
        "ftp://cars.example/ads/1",
        "https://",
        "https://cars.example/a b",
        'https://cars.example/"onclick="',
        "https://cars.example/\r\nBcc: x@y.example",
        "https://[cars.example/",
        "https://cars.example:99999/",
    ],
)
def test_link_must_be_a_web_url(link):
    with pytest.raises(ValidationError, match=r"must begin|must be an absolute URL"):
        AdApprovedEmail(ad_id=1, ad_title="Lada", occurred_at=AT, link=link)


@pytest.mark.parametrize(
    "typed", ["Lada\r\n\r\nNiva", "Lada\x00 Niva", "  Lada\u2028Niva ", "Lada \u202eNiva", "Lada\tNiva"]
)
def test_title_is_cleaned_to_one_line(typed):
    assert AdApprovedEmail(ad_id=1, ad_title=typed, occurred_at=AT).ad_title == "Lada Niva"


@pytest.mark.parametrize("subject", ["", "  ", "Sale\nBcc: all@cars.example", "Sale\x00", "Sale\u2028now"])
def test_subject_of_several_lines_is_rejected(subject):
    with pytest.raises(ValidationError, match="one line of printable text"):
        PlainEmail(occurred_at=AT, subject=subject, paragraphs=["Hello"])


def test_paragraphs_keep_line_breaks_and_no_other_controls():
    email = PlainEmail(occurred_at=AT, subject="Hello", paragraphs=[" One\r\nTwo\rThree\x00\x1b"])

    assert email.paragraphs == ["One\nTwo\nThree"]


def test_duplicate_reasons_are_shown_once():
    email = AdNeedsEditEmail(
        ad_id=1, ad_title="Lada", occurred_at=AT, reasons=["phone", "price", "phone"], reason="price"
    )

    assert email.all_reasons == ["phone", "price"]


def test_critical_emails():
    assert [name for name, email in EMAILS.items() if email.critical] == ["ad_max_attempts", "manager_max_attempts"]


def test_only_digests_and_reports_can_be_unsubscribed_from():
    assert [name for name, email in EMAILS.items() if email.subscribed] == ["manager_digest", "daily_report"]


def test_approval_expires_after_two_days_and_rejection_after_seven(sample):
    approved, rejected = sample("ad_approved"), sample("ad_rejected")

    assert approved.expires_at == AT + timedelta(days=2)
    assert rejected.expires_at == AT + timedelta(days=7)
