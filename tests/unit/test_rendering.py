"""Letters as their readers see them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from jinja2 import UndefinedError
from pydantic import ValidationError

from consumers.mail.compose.rendering import Emails, Site
from consumers.mail.compose.samples import SAMPLES, SITE, UNSUBSCRIBE
from schemas.emails import AnyEmail, ManagerAdEvent
from schemas.locale import LOCALES
from templates.filters import cut


@pytest.mark.parametrize("letter", SAMPLES, ids=lambda letter: letter.name)
def test_a_letter_in_ukrainian_reads_like_this(letters, as_read, pinned, letter):
    rendered = letters.render(letter, "uk", unsubscribe_url=UNSUBSCRIBE if letter.subscribed else None)

    assert as_read(rendered) == pinned(letter.name, "uk")


@pytest.mark.parametrize("locale", ["en", "ru"])
@pytest.mark.parametrize("name", ["ad_needs_edit", "daily_report"])
def test_a_letter_in_another_language_reads_like_this(letters, as_read, pinned, sample, name, locale):
    letter = sample(name)

    rendered = letters.render(letter, locale, unsubscribe_url=UNSUBSCRIBE if letter.subscribed else None)

    assert as_read(rendered) == pinned(name, locale)


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
def test_attempts_are_counted_in_the_readers_grammar(letters, sample, locale, left, words):
    rendered = letters.render(sample("ad_needs_edit", attempts_left=left, max_attempts=30), locale)

    assert words in rendered.text
    assert words in rendered.html


def test_nobody_is_asked_to_try_again_without_an_attempt(letters, sample):
    rendered = letters.render(sample("ad_rejected", attempts_left=0), "en")

    assert "submit the ad again" not in rendered.text
    assert "write to the support of Автобазар" in rendered.text


def test_nothing_is_said_of_attempts_that_nobody_counted(letters, sample):
    rendered = letters.render(sample("ad_rejected", attempts_left=None), "en")

    assert "submit the ad again" in rendered.text
    assert "attempts left" not in rendered.text


@pytest.mark.parametrize(
    ("count", "subject"),
    [(1, "1 сповіщення модерації"), (4, "4 сповіщення модерації"), (1025, "1 025 сповіщень модерації")],
)
def test_a_digest_says_how_many_notices_it_stands_for(letters, sample, count, subject):
    digest = sample("manager_digest")

    rendered = letters.render(sample("manager_digest", items=digest.items[:1], left_out=count - 1), "uk")

    assert rendered.subject == subject


@pytest.mark.parametrize(
    ("status", "news"),
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
def test_each_status_is_news_of_its_own(letters, sample, status, news):
    rendered = letters.render(sample("ad_status_changed", status=status, ad_title="Lada"), "uk")

    assert rendered.subject == f"{news}: Lada"
    assert f"{news}</h1>" in rendered.html
    assert "«Lada»" in rendered.text.splitlines()[0]


@pytest.mark.parametrize(
    ("action", "news"),
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
def test_managers_read_what_happened_also_where_nobody_thought_of_it(letters, sample, action, news):
    rendered = letters.render(sample("manager_ad_event", action=action, ad_title="Lada"), "uk")

    assert rendered.subject == f"{news}: Lada"
    assert ("price_dropped" in rendered.text) == (action == "price_dropped")


@pytest.mark.parametrize(
    ("status", "word"),
    [("active", "активне"), ("rejected", "відхилено"), ("draft", "чернетка"), ("inactive", "деактивовано")],
)
def test_managers_read_the_status_in_words(letters, sample, status, word):
    assert f"Статус: {word}\n" in letters.render(sample("manager_ad_event", status=status), "uk").text


def test_times_are_those_of_the_clock_on_the_readers_wall(sample):
    winter = sample("ad_approved", occurred_at=datetime(2026, 1, 31, 22, 30, tzinfo=UTC))
    summer = sample("ad_approved", occurred_at=datetime(2026, 7, 31, 20, 30, tzinfo=UTC))
    kyiv, tokyo = Emails(SITE, "Europe/Kyiv"), Emails(SITE, "Asia/Tokyo")

    assert "1 лютого 2026" in kyiv.render(winter, "uk").text
    assert "00:30" in kyiv.render(winter, "uk").text
    assert "23:30" in kyiv.render(summer, "uk").text
    assert "07:30" in tokyo.render(winter, "uk").text


@pytest.mark.parametrize(
    ("asked", "given"),
    [("uk", "uk"), ("en-GB", "en"), ("ru_RU", "ru"), ("EN", "en"), ("pl", "uk"), ("", "uk")],
)
def test_a_reader_whose_language_we_do_not_have_reads_ukrainian(letters, sample, asked, given):
    rendered = letters.render(sample("ad_approved"), asked)

    assert rendered.locale == given
    assert f'lang="{given}"' in rendered.html


def test_what_people_typed_is_text_in_html_and_stays_as_it_is_in_text(letters, sample):
    typed = "<script>alert(1)</script> & {{ 7*7 }} %(id)s 100% \"x\" 'y'"
    letter = sample("ad_needs_edit", ad_title=typed, reasons=[typed])

    rendered = letters.render(letter, "uk")

    assert "<script>" not in rendered.html
    assert rendered.html.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; {{ 7*7 }} %(id)s 100% &#34;x&#34;") == 3
    assert f"«{typed}»" in rendered.text
    assert f"- {typed}\n" in rendered.text


TYPED = "<script>alert(1)</script> & {{ 7*7 }} %(id)s"


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("letter", SAMPLES, ids=lambda letter: letter.name)
def test_whatever_fact_of_a_letter_holds_markup_it_is_text_in_html(letters, letter, locale):
    rendered = letters.render(with_text(letter, TYPED), locale)

    assert "<script>" not in rendered.html
    assert "&amp;lt;" not in rendered.html
    assert "&lt;" not in rendered.text


def with_text(letter: AnyEmail, text: str) -> AnyEmail:
    """The letter with this in place of every text that may be any."""

    def put(whole: Any, facts: dict[str, Any] | list[Any]) -> None:
        for key, value in list(facts.items() if isinstance(facts, dict) else enumerate(facts)):
            if isinstance(value, dict | list):
                put(whole, value)
            elif isinstance(value, str):
                facts[key] = text
                try:
                    type(letter).model_validate_json(json.dumps(whole))
                except ValidationError:
                    facts[key] = value

    facts = letter.model_dump(mode="json")
    put(facts, facts)
    return type(letter).model_validate_json(json.dumps(facts))


def test_a_link_cannot_leave_its_attribute(letters, sample):
    rendered = letters.render(sample("ad_approved", link="https://cars.example/?a=1&b='2'"), "uk")

    assert 'href="https://cars.example/?a=1&amp;b=&#39;2&#39;"' in rendered.html


@pytest.mark.parametrize("letter", SAMPLES, ids=lambda letter: letter.name)
def test_a_letter_without_a_link_has_no_button(letters, letter):
    without = letter.model_copy(update={"link": None})

    rendered = letters.render(without, "uk")

    assert 'class="button"' not in rendered.html
    assert "class=" in rendered.html


def test_subscribed_mail_shows_where_to_unsubscribe(letters, sample):
    shown = letters.render(sample("manager_digest"), "en", unsubscribe_url=UNSUBSCRIBE)
    hidden = letters.render(sample("manager_digest"), "en")

    assert UNSUBSCRIBE in shown.text
    assert f'href="{UNSUBSCRIBE}"' in shown.html
    assert "nsubscribe" not in hidden.text + hidden.html


def test_a_template_that_asks_for_what_its_letter_does_not_have_is_an_error(letters, sample):
    facts = sample("manager_ad_event").model_dump(exclude={"action"})
    incomplete = ManagerAdEvent.model_construct(**facts)

    with pytest.raises(UndefinedError, match="has no attribute 'action'"):
        letters.render(incomplete, "uk")


def test_the_name_of_the_site_is_escaped_too(sample):
    letters = Emails(Site(name="Cars & <Co>", url="https://cars.example", sender="a@cars.example"), "Europe/Kyiv")

    html = letters.render(sample("ad_approved"), "en").html

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
def test_a_cut_leaves_whole_words_and_whole_characters(text, longest, shown):
    assert cut(text, longest) == shown
    assert len(cut(text, longest)) <= longest
