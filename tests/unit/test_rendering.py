"""Emails as recipients see them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from jinja2 import UndefinedError
from pydantic import ValidationError

from consumers.mail.compose.rendering import EmailRenderer, SiteIdentity
from consumers.mail.compose.samples import SAMPLES, SITE, UNSUBSCRIBE
from schemas.emails import AnyEmail, ManagerAdEventEmail
from schemas.locale import LOCALES
from templates.filters import truncate


@pytest.mark.parametrize("email", SAMPLES, ids=lambda email: email.name)
def test_ukrainian_emails(renderer, as_read, expected_email, email):
    rendered = renderer.render(email, "uk", unsubscribe_url=UNSUBSCRIBE if email.subscribed else None)

    assert as_read(rendered) == expected_email(email.name, "uk")


@pytest.mark.parametrize("locale", ["en", "ru"])
@pytest.mark.parametrize("name", ["ad_needs_edit", "daily_report", "incident"])
def test_emails_in_other_languages(renderer, as_read, expected_email, sample, name, locale):
    email = sample(name)

    rendered = renderer.render(email, locale, unsubscribe_url=UNSUBSCRIBE if email.subscribed else None)

    assert as_read(rendered) == expected_email(name, locale)


@pytest.mark.parametrize(
    ("locale", "left", "words"),
    [
        ("uk", 0, "Спроб більше не залишилося."),
        ("uk", 1, "У вас залишилася 1 спроба з 30."),
        ("uk", 2, "У вас залишилося 2 спроби з 30."),
        ("uk", 5, "У вас залишилося 5 спроб з 30."),
        ("uk", 11, "У вас залишилося 11 спроб з 30."),
        ("uk", 21, "У вас залишилася 21 спроба з 30."),
        ("ru", 0, "Попыток больше не осталось."),
        ("ru", 1, "У вас осталась 1 попытка из 30."),
        ("ru", 3, "У вас осталось 3 попытки из 30."),
        ("ru", 12, "У вас осталось 12 попыток из 30."),
        ("en", 0, "No attempts are left."),
        ("en", 1, "You have 1 attempt left of 30."),
        ("en", 2, "You have 2 attempts left of 30."),
    ],
)
def test_attempts_have_the_plural_forms_of_the_language(renderer, sample, locale, left, words):
    rendered = renderer.render(sample("ad_needs_edit", attempts_left=left, max_attempts=30), locale)

    assert words in rendered.text
    assert words in rendered.html


def test_no_request_to_submit_again_without_attempts(renderer, sample):
    rendered = renderer.render(sample("ad_rejected", attempts_left=0), "en")

    assert "submit the ad again" not in rendered.text
    assert "write to the support of Автобазар" in rendered.text


def test_unknown_attempts_are_not_mentioned(renderer, sample):
    rendered = renderer.render(sample("ad_rejected", attempts_left=None), "en")

    assert "submit the ad again" in rendered.text
    assert "attempts left" not in rendered.text


@pytest.mark.parametrize(
    ("count", "subject"),
    [(1, "1 сповіщення модерації"), (4, "4 сповіщення модерації"), (1025, "1 025 сповіщень модерації")],
)
def test_digest_counts_its_notices(renderer, sample, count, subject):
    digest = sample("manager_digest")

    rendered = renderer.render(sample("manager_digest", items=digest.items[:1], left_out=count - 1), "uk")

    assert rendered.subject == subject


@pytest.mark.parametrize(
    ("status", "subject"),
    [
        ("draft", "Ваше оголошення №4711 знову чернетка"),
        ("pending", "Ваше оголошення №4711 чекає на перевірку"),
        ("needs_review", "Ваше оголошення №4711 ще раз перевірять"),
        ("blocked", "Ваше оголошення №4711 заблоковано"),
        ("sold", "Ваше оголошення №4711 позначено як продане"),
        ("archived", "Ваше оголошення №4711 в архіві"),
        ("inactive", "Ваше оголошення №4711 деактивовано"),
    ],
)
def test_each_status_has_its_own_subject(renderer, sample, status, subject):
    rendered = renderer.render(sample("ad_status_changed", status=status, ad_title="Lada"), "uk")

    assert rendered.subject == f"{subject}: Lada"
    assert f"{subject}</h1>" in rendered.html
    assert "«Lada»" in rendered.text.splitlines()[0]


@pytest.mark.parametrize(
    ("action", "subject"),
    [
        ("created", "Нове оголошення №4711"),
        ("auto_approved", "Оголошення №4711 схвалено автоматично"),
        ("auto_rejected", "Оголошення №4711 відхилено автоматично"),
        ("manually_approved", "Оголошення №4711 схвалено модератором"),
        ("manually_rejected", "Оголошення №4711 відхилено модератором"),
        ("bulk_status_change", "Змінено статус оголошення №4711"),
        ("price_dropped", "Новини щодо оголошення №4711"),
    ],
)
def test_managers_see_unknown_actions_too(renderer, sample, action, subject):
    rendered = renderer.render(sample("manager_ad_event", action=action, ad_title="Lada"), "uk")

    assert rendered.subject == f"{subject}: Lada"
    assert ("price_dropped" in rendered.text) == (action == "price_dropped")


@pytest.mark.parametrize(
    ("status", "word"),
    [("active", "активне"), ("rejected", "відхилено"), ("draft", "чернетка"), ("inactive", "деактивовано")],
)
def test_status_is_translated(renderer, sample, status, word):
    assert f"Статус: {word}\n" in renderer.render(sample("manager_ad_event", status=status), "uk").text


def test_times_are_local(sample):
    winter = sample("ad_approved", occurred_at=datetime(2026, 1, 31, 22, 30, tzinfo=UTC))
    summer = sample("ad_approved", occurred_at=datetime(2026, 7, 31, 20, 30, tzinfo=UTC))
    kyiv, tokyo = EmailRenderer(SITE, "Europe/Kyiv"), EmailRenderer(SITE, "Asia/Tokyo")

    assert "1 лютого 2026" in kyiv.render(winter, "uk").text
    assert "00:30" in kyiv.render(winter, "uk").text
    assert "23:30" in kyiv.render(summer, "uk").text
    assert "07:30" in tokyo.render(winter, "uk").text


@pytest.mark.parametrize(
    ("requested", "used"),
    [("uk", "uk"), ("en-GB", "en"), ("ru_RU", "ru"), ("EN", "en"), ("pl", "uk"), ("", "uk")],
)
def test_unsupported_language_falls_back_to_ukrainian(renderer, sample, requested, used):
    rendered = renderer.render(sample("ad_approved"), requested)

    assert rendered.locale == used
    assert f'lang="{used}"' in rendered.html


def test_user_input_is_escaped_in_html_only(renderer, sample):
    typed = "<script>alert(1)</script> & {{ 7*7 }} %(id)s 100% \"x\" 'y'"
    email = sample("ad_needs_edit", ad_title=typed, reasons=[typed])

    rendered = renderer.render(email, "uk")

    assert "<script>" not in rendered.html
    assert rendered.html.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; {{ 7*7 }} %(id)s 100% &#34;x&#34;") == 3
    assert f"«{typed}»" in rendered.text
    assert f"- {typed}\n" in rendered.text


TYPED = "<script>alert(1)</script> & {{ 7*7 }} %(id)s"


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("email", SAMPLES, ids=lambda email: email.name)
def test_every_fact_is_escaped_in_html(renderer, email, locale):
    rendered = renderer.render(with_text(email, TYPED), locale)

    assert "<script>" not in rendered.html
    assert "&amp;lt;" not in rendered.html
    assert "&lt;" not in rendered.text


def with_text(email: AnyEmail, text: str) -> AnyEmail:
    """Replace every free text of an email."""

    def put(whole: Any, facts: dict[str, Any] | list[Any]) -> None:
        for key, value in list(facts.items() if isinstance(facts, dict) else enumerate(facts)):
            if isinstance(value, dict | list):
                put(whole, value)
            elif isinstance(value, str):
                facts[key] = text
                try:
                    type(email).model_validate_json(json.dumps(whole))
                except ValidationError:
                    facts[key] = value

    facts = email.model_dump(mode="json")
    put(facts, facts)
    return type(email).model_validate_json(json.dumps(facts))


def test_link_is_escaped_in_its_attribute(renderer, sample):
    rendered = renderer.render(sample("ad_approved", link="https://cars.example/?a=1&b='2'"), "uk")

    assert 'href="https://cars.example/?a=1&amp;b=&#39;2&#39;"' in rendered.html


@pytest.mark.parametrize("email", SAMPLES, ids=lambda email: email.name)
def test_no_button_without_a_link(renderer, email):
    without = email.model_copy(update={"link": None})

    rendered = renderer.render(without, "uk")

    assert 'class="button"' not in rendered.html
    assert "class=" in rendered.html


def test_subscribed_email_shows_the_unsubscribe_url(renderer, sample):
    shown = renderer.render(sample("manager_digest"), "en", unsubscribe_url=UNSUBSCRIBE)
    hidden = renderer.render(sample("manager_digest"), "en")

    assert UNSUBSCRIBE in shown.text
    assert f'href="{UNSUBSCRIBE}"' in shown.html
    assert "nsubscribe" not in hidden.text + hidden.html


def test_undefined_fact_is_an_error(renderer, sample):
    facts = sample("manager_ad_event").model_dump(exclude={"action"})
    incomplete = ManagerAdEventEmail.model_construct(**facts)

    with pytest.raises(UndefinedError, match="has no attribute 'action'"):
        renderer.render(incomplete, "uk")


def test_site_name_is_escaped(sample):
    renderer = EmailRenderer(
        SiteIdentity(name="Cars & <Co>", url="https://cars.example", sender="a@cars.example"), "Europe/Kyiv"
    )

    html = renderer.render(sample("ad_approved"), "en").html

    assert "Cars &amp; &lt;Co&gt;" in html
    assert "<Co>" not in html


@pytest.mark.parametrize(
    ("text", "longest", "shown"),
    [
        ("Toyota Camry", 12, "Toyota Camry"),
        ("Toyota Camry 2019", 14, "Toyota Camry…"),
        ("Toyota, Camry", 9, "Toyota…"),
        ("Донаудампфшифффартсгезельшафт", 10, "Донаудамп…"),
        ("Машина 👨\u200d👩\u200d👧 сім'ї", 11, "Машина…"),
        ("Кафе\u0301 й далі", 5, "Каф…"),
    ],
)
def test_text_is_truncated_after_whole_words_and_characters(text, longest, shown):
    assert truncate(text, longest) == shown
    assert len(truncate(text, longest)) <= longest
