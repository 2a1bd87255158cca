"""Notices: the vocabulary of actions, the texts in each language, and validation of what publishers send."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from consumers.moderation.notices.actions import (
    DecisionEvent,
    OwnerEvent,
    normalize_action,
    owner_event,
    stored_action,
)
from consumers.moderation.notices.ads import AdList
from consumers.moderation.notices.lines import MAX_LINE_LENGTH, one_line, wrap_list
from consumers.moderation.notices.managers import NoticeToManagers
from consumers.moderation.notices.notice import occurred_at
from consumers.moderation.notices.owners import NoticeToOwner
from pocketwatch.settings import Site
from pocketwatch.text import shorten
from schemas.emails import OtherStatus, PlainEmail
from schemas.locale import LOCALES, Locale
from schemas.mail import parse_address
from schemas.moderation import Action, AdStatus, NoticeData, UserNotice

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
# Those that the platform's own task maps, and those that its choices name; all others are as in that task.
STORED = {
    "needs_review": "ad_needs_review",
    "flagged": "ad_flagged",
    "max_attempts_reached": "ad_max_attempts",
    "user_banned": "user_banned",
    "content_violation": "content_violation",
}
EVENTS: tuple[OwnerEvent, ...] = (*get_args(DecisionEvent), *get_args(OtherStatus))
SITE = Site(POCKETWATCH_SITE_URL="https://cars.example/", POCKETWATCH_AD_PATH="/auto/{ad_id}?from=a b")


def data(**fields: Any) -> NoticeData:
    return NoticeData.model_validate_json(json.dumps({"action": "flagged", "max_attempts": 3} | fields))


def to_owner(*ids: int, event: OwnerEvent = "needs_edit", **fields: Any) -> NoticeToOwner:
    facts = {"ads": AdList(ids, []), "user_id": 5, "occurred_at": NOW, "site": SITE}
    return NoticeToOwner(data=data(**fields), event=event, message_id="a-notice", **facts)


def to_managers(*ids: int, user_id: int | None = 5, title: str = "", message: str = "", **fields: Any) -> Any:
    facts = {"ads": AdList(ids, []), "user_id": user_id, "occurred_at": NOW, "site": SITE, "priority": 8}
    return NoticeToManagers(data=data(**fields), custom_title=title, custom_message=message, **facts)


@pytest.mark.parametrize("name", ["max_attempts_reached", "AD_MAX_ATTEMPTS", "max-attempts", "ad_max_attempts_reached"])
def test_action_names_are_normalized(name: str):
    assert normalize_action(name) == "max_attempts_reached"


@pytest.mark.parametrize("action", get_args(Action))
def test_stored_action_is_a_choice_of_the_platform(action: Action):
    assert normalize_action(action) == action
    assert stored_action(action) == STORED.get(action, "ad_needs_review")


@pytest.mark.parametrize("action", get_args(Action))
@pytest.mark.parametrize("status", [*get_args(AdStatus), None])
def test_every_owner_event_has_texts_and_an_email(action: Action, status: str | None):
    event = owner_event(data(action=action, status=status))

    if action == "created" or (status is None and "status_change" in action):
        assert event is None
        return
    assert event is not None
    notice = to_owner(7, event=event, action=action, status=status)
    email = notice.email("uk")
    assert notice.title("uk")
    assert notice.lines("uk")
    assert email.occurred_at == NOW
    assert (email.name == "plain") is (event in {"user_banned", "content_violation"})


@pytest.mark.parametrize("action", get_args(Action))
@pytest.mark.parametrize("message", ["", " \n "])
def test_notice_without_facts_becomes_a_plain_email(action: Action, message: str):
    notice = to_managers(action=action, max_attempts=None, user_id=None, message=message)

    email = notice.email("uk")

    assert isinstance(email, PlainEmail)
    assert email.paragraphs == [notice.title("uk")]


@given(st.text(max_size=300), st.sampled_from(LOCALES))
def test_any_reason_fits_into_email_and_info_table(reason: str, locale: Locale):
    clean = reason.replace("\x00", "").encode(errors="ignore").decode()
    fields = {"reason": clean, "details": {"reasons": [clean] * 3, "suggestions": clean, "categories": [clean]}}
    notices = [
        to_managers(7, title=clean[:200], **fields),
        to_managers(title=clean[:200], action="user_banned", reason=clean),
        to_owner(7, **fields),
        to_owner(action="user_banned", reason=clean),
    ]

    for notice in notices:
        assert len(notice.title(locale)) <= 200
        notice.email(locale)


def test_link_leads_to_the_ad_or_its_admin_page():
    assert to_owner(7, event="approved").email("uk").link == "https://cars.example/auto/7?from=a%20b"
    assert to_managers(7).email("uk").link == "https://cars.example/admin/ads/carad/7/change/"


def test_uncounted_attempts_are_not_mentioned():
    notice = to_owner(7, max_attempts=None)

    assert notice.attempts_left is None
    assert getattr(notice.email("en"), "attempts_left", 0) is None


def test_control_characters_become_spaces():
    assert one_line(" a\r\nb\x00\x1b\u202ec\u2028d ") == "a b c d"


def test_overlong_text_ends_with_an_ellipsis():
    assert shorten("x" * 10, 10) == "x" * 10
    assert shorten("word and more", 6) == "word…"


@given(st.lists(st.text(alphabet="ab «»", min_size=1, max_size=90), max_size=60))
def test_list_wraps_without_losing_items(labels: list[str]):
    lines = list(wrap_list("Ads:", labels))

    assert all(len(line) <= MAX_LINE_LENGTH for line in lines)
    assert ", ".join(lines) == ", ".join(["Ads: " + labels[0], *labels[1:]] if labels else ["Ads:"])


def test_future_timestamp_becomes_now():
    assert occurred_at(data(timestamp="2099-01-01T00:00:00"), NOW) == NOW


@pytest.mark.parametrize(
    "address", ["", " ", "no-address", "a@b", "a@example.com\nBcc: b@example.com", "я@example.com"]
)
def test_invalid_address_is_none(address: str):
    assert parse_address(address) is None


def test_address_is_stripped_and_normalized():
    assert parse_address(" Olha.K@Example.COM ") == "Olha.K@example.com"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"timestamp": "0001-01-01T00:00:00+05:00"}, "within the years 2 to 9998"),
        ({"details": {"a": [{"b\x00": 1}]}}, "must not contain NUL"),
        ({"details": {"a": 1e400}}, "infinite"),
        ({"details": {"a": ["x" * 10_000] * 10}}, "must not be larger"),
    ],
)
def test_unstorable_values_are_refused(fields: dict[str, Any], problem: str):
    body = json.dumps({"data": {"action": "flagged"} | fields})

    with pytest.raises(ValidationError, match=problem):
        UserNotice.model_validate_json(body)
