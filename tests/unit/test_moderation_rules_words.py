"""Word lists: disguised words are found, and similar harmless ones are not."""

import pytest

from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import AdText, RuleResult
from consumers.moderation.rules.normalize import normalize, split_words, variants

RULES = RuleSet.load()
TITLE = "Skoda Octavia"


def evaluated(description: str) -> RuleResult:
    return RULES.evaluate(AdText(title=TITLE, description=f"{description} Решта опису довга і звичайна"))


def matching_rules(description: str) -> set[str]:
    return {hit.rule for hit in evaluated(description).hits}


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
def test_similar_harmless_words_are_ignored(word: str):
    assert matching_rules(f"Тут є {word} і все.") == set()


@pytest.mark.parametrize(
    "name", ["Skoda Fabia", "Kia Ceed", "Audi A6 C5", "BMW X6M", "4х4", "Ford Escort", "WBA5V71090FH12345"]
)
def test_car_names_are_ignored(name: str):
    assert matching_rules(f"Продаю {name} сьогодні.") == set()


@pytest.mark.parametrize(
    "word",
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
        "ху\u0438\u0306ня",  # й as two characters
        "х*й",
        "f.u.c.k",
        "fuuuuck",
        "fuсk",  # the с is Cyrillic
        "sh1t",
        "$hit",
        "𝓯𝓾𝓬𝓴",
    ],
)
def test_disguised_swear_words_are_found(word: str):
    result = evaluated(f"Це {word} кажу вам.")

    assert [hit.rule for hit in result.hits] == ["profanity.obscene"]
    assert result.verdict == "review"


def test_excerpt_quotes_the_original_text():
    [hit] = evaluated("Ціна, CyKa!, остаточна.").hits

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
def test_allowed_phrases_are_ignored(text: str):
    assert matching_rules(text) == set()


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
def test_phrases_flag_for_manual_review(text: str, rule: str):
    result = evaluated(text)

    assert [hit.rule for hit in result.hits] == [rule]
    assert result.verdict == "review"


def test_shadow_rule_is_recorded_without_effect():
    result = evaluated("Машина без документів, ціна низька.")

    assert [(hit.rule, hit.shadow) for hit in result.hits] == [("prohibited.without_papers", True)]
    assert result.verdict == "approve"
    assert result.reasons("uk") == []
    assert result.scores == {}


def test_variants_follow_from_characters():
    assert variants("2012") == ("2012",)
    assert variants("колесо")[0] == "колесо"
    assert "сука" in variants("cyka")
    assert variants("кaртa")[0] == "карта"
    assert list(split_words(normalize("П'ЯТЬ x**y, a"))) == ["пять", "x*y", "a"]
