"""Letters on the wire: typed, closed, and clean of what could not stand in mail."""

import json
from datetime import timedelta

import pytest
from pydantic import TypeAdapter, ValidationError

from consumers.mail.compose.samples import AT, SAMPLES
from schemas.emails import (
    LETTERS,
    AdApproved,
    AdNeedsEdit,
    Email,
    Plain,
)

letter_of = TypeAdapter(Email)


@pytest.mark.parametrize("letter", SAMPLES, ids=lambda letter: letter.name)
def test_a_letter_is_the_same_after_its_way_over_the_wire(letter):
    assert letter_of.validate_json(letter_of.dump_json(letter)) == letter


def test_every_letter_has_a_sample():
    assert [letter.name for letter in SAMPLES] == list(LETTERS)


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
def test_a_letter_that_nobody_defined_is_refused(facts):
    sound = {"name": "ad_approved", "ad_id": 1, "ad_title": "Lada", "occurred_at": "2026-11-20T12:05:00Z"}
    assert letter_of.validate_json(json.dumps(sound)).name == "ad_approved"

    with pytest.raises(ValidationError):
        letter_of.validate_json(json.dumps(sound | facts))


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
def test_a_link_leads_to_the_web_or_nowhere(link):
    with pytest.raises(ValidationError, match=r"must begin|must be an absolute address"):
        AdApproved(ad_id=1, ad_title="Lada", occurred_at=AT, link=link)


@pytest.mark.parametrize(
    "typed", ["Lada\r\n\r\nNiva", "Lada\x00 Niva", "  Lada\u2028Niva ", "Lada \u202eNiva", "Lada\tNiva"]
)
def test_a_title_is_one_line_whatever_somebody_typed(typed):
    assert AdApproved(ad_id=1, ad_title=typed, occurred_at=AT).ad_title == "Lada Niva"


@pytest.mark.parametrize("subject", ["", "  ", "Sale\nBcc: everybody@cars.example", "Sale\x00", "Sale\u2028now"])
def test_a_subject_of_ones_own_is_one_line_or_refused(subject):
    with pytest.raises(ValidationError, match="one line of printable text"):
        Plain(occurred_at=AT, subject=subject, paragraphs=["Hello"])


def test_paragraphs_keep_their_line_breaks_and_nothing_else_that_is_no_text():
    letter = Plain(occurred_at=AT, subject="Hello", paragraphs=[" One\r\nTwo\rThree\x00\x1b"])

    assert letter.paragraphs == ["One\nTwo\nThree"]


def test_a_reason_that_is_given_twice_is_told_once():
    letter = AdNeedsEdit(ad_id=1, ad_title="Lada", occurred_at=AT, reasons=["phone", "price", "phone"], reason="price")

    assert letter.why == ["phone", "price"]


def test_the_list_of_critical_letters_is_short():
    assert [name for name, letter in LETTERS.items() if letter.critical] == ["ad_max_attempts", "manager_max_attempts"]


def test_only_digests_and_reports_can_be_unsubscribed_from():
    assert [name for name, letter in LETTERS.items() if letter.subscribed] == ["manager_digest", "daily_report"]


def test_news_of_an_approval_are_stale_after_two_days_and_of_a_refusal_after_seven(sample):
    approved, rejected = sample("ad_approved"), sample("ad_rejected")

    assert approved.keeps_until == AT + timedelta(days=2)
    assert rejected.keeps_until == AT + timedelta(days=7)
