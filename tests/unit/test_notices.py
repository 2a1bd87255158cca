"""Notices: the vocabulary of actions, the words in three languages, and what a publisher may say."""

import json
import string
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from consumers.moderation.notices import emails, messages, translations
from consumers.moderation.notices.actions import (
    Decided,
    News,
    canonical,
    news_of,
    stored,
)
from consumers.moderation.notices.notice import (
    LONGEST_LINE,
    About,
    Ads,
    moment_of,
    one_line,
    packed,
    shortened,
)
from consumers.moderation.notices.records import usable
from pocketwatch.settings import Site
from schemas.emails import OtherStatus, Plain
from schemas.locale import LOCALES
from schemas.moderation import Action, AdStatus, NoticeData, UserNotice

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NEWS: tuple[News, ...] = (*get_args(Decided), *get_args(OtherStatus))


def about(*ids: int, **data: Any) -> About:
    said = {"action": "flagged", "max_attempts": 3} | data
    return About(NoticeData.model_validate_json(json.dumps(said)), Ads(ids, []), 5, NOW)


@pytest.mark.parametrize("name", ["max_attempts_reached", "AD_MAX_ATTEMPTS", "max-attempts", "ad_max_attempts_reached"])
def test_an_action_has_one_name_however_it_is_spelt(name: str):
    assert canonical(name) == "max_attempts_reached"


@pytest.mark.parametrize("action", get_args(Action))
def test_what_the_info_table_calls_an_action_is_understood_in_settings(action: Action):
    assert canonical(action) == canonical(stored(action)) == action
    assert len(stored(action)) <= 50


@pytest.mark.parametrize("action", get_args(Action))
@pytest.mark.parametrize("status", [*get_args(AdStatus), None])
def test_every_notice_that_is_news_to_an_owner_has_words_and_a_letter(action: Action, status: str | None):
    told = about(7, action=action, status=status)
    news = news_of(told.data)

    if action == "created" or (status is None and "status_change" in action):
        assert news is None
        return
    assert news is not None
    words = messages.to_owner(told, news, "uk")
    letter = emails.to_owner(told, news, words, "uk", Site())
    assert letter.occurred_at == NOW
    assert (letter.name == "plain") is (news in {"user_banned", "content_violation"})


@pytest.mark.parametrize("action", get_args(Action))
@pytest.mark.parametrize("message", [None, " \n "])
def test_a_notice_that_says_nothing_but_its_action_is_a_letter_to_managers(action: Action, message: str | None):
    told = replace(about(action=action, max_attempts=None), user_id=None)
    words = messages.to_manager(told, "uk", message=message)

    letter = emails.to_manager(told, words, "uk", Site())

    assert isinstance(letter, Plain)
    assert letter.paragraphs == [words.title]


@pytest.mark.parametrize("locale", LOCALES)
def test_every_language_has_all_words(locale: translations.Locale):
    tables = {
        "owner_titles": (translations.OWNER_TITLES, NEWS),
        "owner_sentences": (translations.OWNER_SENTENCES, NEWS),
        "manager_titles": (translations.MANAGER_TITLES, get_args(Action)),
        "statuses": (translations.STATUSES, get_args(AdStatus)),
    }

    for name, (table, keys) in tables.items():
        assert set(table[locale]) == set(keys), name
        assert all(fields(table[locale][key]) == fields(table["uk"][key]) for key in keys), name
    phrases = [
        each for each in vars(translations).values() if isinstance(each, type(translations.REASON)) and "uk" in each
    ]
    assert all(set(each) == set(LOCALES) for each in phrases)


def fields(template: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(template)} - {None}


@given(st.text(max_size=300), st.sampled_from(LOCALES))
def test_any_reason_fits_into_a_letter_and_the_info_table(reason: str, locale: translations.Locale):
    clean = reason.replace("\x00", "").encode(errors="ignore").decode()
    told = about(7, reason=clean, details={"reasons": [clean] * 3, "suggestions": clean, "categories": [clean]})
    nobodys = about(action="user_banned", reason=clean)

    for each in (told, nobodys):
        words = messages.to_manager(each, locale, title=clean[:200])
        assert len(words.title) <= 200
        emails.to_manager(each, words, locale, Site())
        emails.to_owner(each, "needs_edit", messages.to_owner(each, "needs_edit", locale), locale, Site())


def test_a_link_leads_to_the_ad_on_the_site_or_in_the_administration():
    site = Site(POCKETWATCH_SITE_URL="https://cars.example/", POCKETWATCH_AD_PATH="/auto/{ad_id}?from=a b")
    told = about(7)

    owners = emails.to_owner(told, "approved", messages.to_owner(told, "approved", "uk"), "uk", site)
    managers = emails.to_manager(told, messages.to_manager(told, "uk"), "uk", site)

    assert owners.link == "https://cars.example/auto/7?from=a%20b"
    assert managers.link == "https://cars.example/admin/ads/carad/7/change/"


def test_attempts_that_nobody_counted_are_not_told():
    told = about(7, max_attempts=None)

    letter = emails.to_owner(told, "needs_edit", messages.to_owner(told, "needs_edit", "en"), "en", Site())

    assert told.attempts_left is None
    assert getattr(letter, "attempts_left", 0) is None


def test_a_title_is_one_printable_line():
    assert one_line(" a\r\nb\x00\x1b\u202ec\u2028d ") == "a b c d"


def test_what_is_too_long_ends_with_an_ellipsis():
    assert shortened("x" * 10, 10) == "x" * 10
    assert shortened("word and more", 6) == "word…"


@given(st.lists(st.text(alphabet="ab «»", min_size=1, max_size=90), max_size=60))
def test_labels_are_packed_into_lines_without_losing_one(labels: list[str]):
    lines = list(packed("Ads:", labels))

    assert all(len(line) <= LONGEST_LINE for line in lines)
    assert ", ".join(lines) == ", ".join(["Ads: " + labels[0], *labels[1:]] if labels else ["Ads:"])


def test_what_happens_in_the_future_happens_now():
    later = NoticeData.model_validate_json('{"action": "flagged", "timestamp": "2099-01-01T00:00:00"}')

    assert moment_of(later, NOW) == NOW


@pytest.mark.parametrize("address", ["", " ", "nobody", "a@b", "a@example.com\nBcc: b@example.com", "я@example.com"])
def test_an_address_that_no_letter_can_go_to_is_none(address: str):
    assert usable(address) is None


def test_an_address_keeps_its_name_and_loses_the_space_around_it():
    assert usable(" Olha.K@Example.COM ") == "Olha.K@example.com"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"timestamp": "0001-01-01T00:00:00+05:00"}, "within the years 1 to 9999"),
        ({"details": {"a": [{"b\x00": 1}]}}, "must not contain NUL"),
        ({"details": {"a": 1e400}}, "infinite"),
        ({"details": {"a": ["x" * 10_000] * 10}}, "must not be larger"),
    ],
)
def test_what_the_database_cannot_hold_is_refused_by_name(data: dict[str, Any], problem: str):
    body = json.dumps({"data": {"action": "flagged"} | data})

    with pytest.raises(ValidationError, match=problem):
        UserNotice.model_validate_json(body)
