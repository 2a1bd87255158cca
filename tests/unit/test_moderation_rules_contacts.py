"""Contacts: phone numbers, addresses, links and messenger accounts, also disguised ones."""

import pytest

from consumers.moderation.rules.engine import RuleSet
from consumers.moderation.rules.model import AdText

RULES = RuleSet.load()


def matching_rules(description: str) -> set[str]:
    ad = AdText(title="Skoda Octavia", description=f"Гарний стан, один власник. {description}")
    return {hit.rule for hit in RULES.evaluate(ad).hits}


@pytest.mark.parametrize(
    "number",
    [
        "067 123 45 67",
        "+380 67 123-45-67",
        "38-067-123-45-67",
        "0 (50) 123 45 67",
        "8 067 123 45 67",
        "0 6 7 1 2 3 4 5 6 7",
        "0.6.7.1.2.3.4.5.6.7",
        "О67 12З 45 67",
        "+З8О671234567",
        "０６７１２３４５６７",
        "0️⃣6️⃣7️⃣1️⃣2️⃣3️⃣4️⃣5️⃣6️⃣7️⃣",
        "067\u200b1234567",
        "٠٦٧١٢٣٤٥٦٧",
        "нуль шість сім один два три чотири п'ять шість сім",
        "ноль шестьдесят семь сто двадцать три сорок пять шестьдесят семь",
        "zero six seven one two three four five six seven",
        "0 шістсот сімдесят один двісті тридцять чотири п'ятсот шістдесят сім",
        "2012 рік, 067 123 45 67",
        "+49 151 23456789",
    ],
)
def test_disguised_phone_numbers_are_found(number: str):
    assert matching_rules(f"Мій номер {number}") == {"contact.phone"}


@pytest.mark.parametrize(
    "text",
    [
        "Ціна 7500, пробіг 145000, рік 2012.",
        "VIN WBATX35070LB12345, двигун 1.6 TDI 1598 см3.",
        "Гума 205/55 R16, диски ET50 5x112.",
        "Дата 05.06.2015 20 тис., ТО 15.03.2023, страховка до 2027-01-15.",
        "Запчастини 1K0 698 151 G, A 204 880 05 40, 1607 456 380, 06A 906 032 HN.",
        "Ціна 250 000 - 260 000 грн, 6 200 - 6 500 $.",
        "Сто двадцять тисяч пробігу, один два власники, три чотири роки.",
        "2008 2012 2015 145000 7500",
        "Код ЄДРПОУ 12345678, шасі 000 123 456.",
        "ОО «Запоріжжя», о 12 годині, 3 000 о'клок",
    ],
)
def test_other_numbers_are_ignored(text: str):
    assert matching_rules(text) == set()


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Пошта ivan.petrenko@gmail.com", "contact.email"),
        ("Пошта ivan @ ukr . net", "contact.email"),
        ("ivan (at) gmail (dot) com", "contact.email"),
        ("іван: ivan собака ukr крапка net", "contact.email"),
        ("Див. https://example.com/auto", "contact.link"),
        ("Див. www.avto.com.ua", "contact.link"),
        ("Див. avto-lviv.com/1", "contact.link"),
        ("сайт крапка com", "contact.link"),
        ("bestcars dot com dot ua", "contact.link"),
        ("bestcars[.]com", "contact.link"),
        ("Пиши @ivan_auto", "contact.messenger"),
        ("t.me/ivan_auto", "contact.messenger"),
        ("Телеграм: ivanauto", "contact.messenger"),
        ("тг ivan_auto", "contact.messenger"),
        ("instagram my nick ivan.auto7", "contact.messenger"),
        ("wa.me/380671234567", "contact.messenger"),
    ],
)
def test_addresses_links_and_accounts_are_found(text: str, rule: str):
    assert rule in matching_rules(text)


@pytest.mark.parametrize(
    "text",
    [
        "Android Auto, Telegram у мультимедіа, WhatsApp, YouTube.",
        "Телеграм є, вайбера немає.",
        "Telegram Android Auto 12",
        "Схема 4@4, тобто повний привід.",
        "Audi.TT та VW.CC поруч, 2.5.td теж.",
        "Торг.Обмін.Не бита.Не фарбована",
        "Дивіться огляд на youtube.com/watch?v=abc",
        "Собака в салоні не їздила, крапка.",
        "Ні одна точка іржі, точка.",
    ],
)
def test_harmless_text_is_not_a_contact(text: str):
    assert matching_rules(text) == set()


def test_card_needs_a_valid_check_digit_and_wallet_its_alphabet():
    assert matching_rules("Номер 4111 1111 1111 1111 мій") == {"payment.card"}
    assert matching_rules("Номер 4111 1111 1111 1112 мій") == set()
    assert matching_rules("TJRabPrwbZy45sbavfcjinPJC18kjpRTv8") == {"payment.wallet"}
    assert matching_rules("T" * 34) == set()
