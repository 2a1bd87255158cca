"""Word lists: what is found however it is spelt, and what is left alone although it looks alike."""

import pytest

from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import AdText, Opinion
from consumers.moderation.rules.normalize import plain, readings, words

RULES = RuleSet.load()
TITLE = "Skoda Octavia"


def examined(description: str) -> Opinion:
    return RULES.examine(AdText(title=TITLE, description=f"{description} Решта опису довга і звичайна"))


def rules_of(description: str) -> set[str]:
    return {hit.rule for hit in examined(description).hits}


@pytest.mark.parametrize(
    "word",
    [
        "страхувати",
        "застрахуй",
        "потребувати",
        "употреблять",
        "мандат",
        "команда",
        "мандарин",
        "Scunthorpe",
        "сукупний",
        "блякла",
        "хулиган",
        "ебонит",
        "дебет",
        "корабля",
        "рубля",
        "гондола",
        "Херсон",
        "бляха",
        "скребок",
        "амортизаторы",
        "рулевой",
        "мудрий",
        "сукно",
        "классика",
        "Shiitake",
        "assistant",
        "cockpit",
        "подстрахуйте",
        "хлебать",
        "требует",
        "учебник",
        "лебедь",
        "оскорблять",
        "небанальный",
        "жидкость",
        "Нигерия",
        "педаль",
        "педикюр",
    ],
)
def test_words_that_only_look_alike_are_left_alone(word: str):
    assert rules_of(f"Тут є {word} і все.") == set()


@pytest.mark.parametrize(
    "name", ["Skoda Fabia", "Kia Ceed", "Audi A6 C5", "BMW X6M", "4х4", "Ford Escort", "WBA5V71090FH12345"]
)
def test_names_of_cars_are_left_alone(name: str):
    assert rules_of(f"Продаю {name} сьогодні.") == set()


@pytest.mark.parametrize(
    "spelt",
    [
        "сука",
        "СУКА",
        "cyкa",  # three letters are Latin
        "cyka",  # all of them are
        "с у к а",
        "с.у.к.а",
        "с-у-к-а",
        "сууууука",
        "с\u200bу\u200bк\u200bа",
        "с\u0336у\u0336к\u0336а\u0336",
        "су́ка",
        "ｓｕｋａ",
        "6лядь",
        "бл@дь",
        "п1здец",
        "пи3дец",
        "ху\u0438\u0306ня",  # й in two signs
        "х*й",
        "f.u.c.k",
        "fuuuuck",
        "fuсk",  # the с is Cyrillic
        "sh1t",
        "$hit",
        "𝓯𝓾𝓬𝓴",
    ],
)
def test_swear_words_are_found_however_they_are_spelt(spelt: str):
    opinion = examined(f"Це {spelt} кажу вам.")

    assert [hit.rule for hit in opinion.hits] == ["profanity.obscene"]
    assert opinion.verdict == "review"


def test_the_excerpt_is_what_the_owner_wrote():
    [hit] = examined("Ціна, CyKa!, остаточна.").hits

    assert hit.excerpt == "CyKa!,"


@pytest.mark.parametrize(
    "text",
    [
        "Авто не крадене і не в розшуку.",
        "Not stolen, never stolen.",
        "Без передоплат на картку.",
        "Автомат, граната замінена, пістолет для зарядки, патрон лампи.",
        "Героїня нашого двору.",
        "Документи. Двійник не трапляється.",  # a sentence ends in between
    ],
)
def test_phrases_that_are_meant_well_are_left_alone(text: str):
    assert rules_of(text) == set()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Авто крадене, недорого.", "prohibited.stolen"),
        ("Передоплата тільки на мою картку.", "scam.prepayment"),
        ("Права категорії В без іспитів.", "prohibited.documents"),
        ("Fake plates in a day.", "prohibited.documents"),
        ("Скручу пробіг.", "prohibited.odometer"),
        ("Онлайн кaзинo тут.", "scam.easy_money"),  # three letters are Latin
        ("Найкращий г а ш и ш, мефедpoн.", "prohibited.drugs"),
    ],
)
def test_phrases_flag_for_a_person_to_look(text: str, rule: str):
    opinion = examined(text)

    assert [hit.rule for hit in opinion.hits] == [rule]
    assert opinion.verdict == "review"


def test_a_rule_in_shadow_is_recorded_and_decides_nothing():
    opinion = examined("Машина без документів, ціна низька.")

    assert [(hit.rule, hit.shadow) for hit in opinion.hits] == [("prohibited.without_papers", True)]
    assert opinion.verdict == "approve"
    assert opinion.reasons("uk") == []
    assert opinion.scores == {}


def test_a_word_has_the_readings_that_its_signs_allow():
    assert readings("2012") == ("2012",)
    assert readings("колесо")[0] == "колесо"
    assert "сука" in readings("cyka")
    assert readings("кaртa")[0] == "карта"
    assert list(words(plain("П'ЯТЬ x**y, a"))) == ["пять", "x*y", "a"]
