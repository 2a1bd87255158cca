"""Numbers that are written with words or look-alike letters, as digits."""

import re

UNITS = {
    0: "нуль ноль zero oh",
    1: "один одна одно one",
    2: "два дві две two",
    3: "три three",
    4: "чотири четыре four",
    5: "пять five",  # without apostrophes
    6: "шість шесть six",
    7: "сім семь seven",
    8: "вісім восемь eight",
    9: "девять nine",
    10: "десять ten",
    11: "одинадцять одиннадцать eleven",
    12: "дванадцять двенадцать twelve",
    13: "тринадцять тринадцать thirteen",
    14: "чотирнадцять четырнадцать fourteen",
    15: "пятнадцять пятнадцать fifteen",
    16: "шістнадцять шестнадцать sixteen",
    17: "сімнадцять семнадцать seventeen",
    18: "вісімнадцять восемнадцать eighteen",
    19: "девятнадцять девятнадцать nineteen",
}
TENS = {
    20: "двадцять двадцать twenty",
    30: "тридцять тридцать thirty",
    40: "сорок forty",
    50: "пятдесят пятьдесят fifty",
    60: "шістдесят шестьдесят sixty",
    70: "сімдесят семьдесят seventy",
    80: "вісімдесят восемьдесят eighty",
    90: "девяносто ninety",
    100: "сто",
    200: "двісті двести",
    300: "триста",
    400: "чотириста четыреста",
    500: "пятсот пятьсот",
    600: "шістсот шестьсот",
    700: "сімсот семьсот",
    800: "вісімсот восемьсот",
    900: "девятсот девятьсот",
}
VALUES = {word: value for value, spelt in (UNITS | TENS).items() for word in spelt.split()}
FEWEST = 4  # so many number words in a row are dictated, and no amount

TERM = re.compile(r"[^\W\d_]+(?:['’ʼ`´][^\W\d_]+)*|\d+")
BETWEEN = re.compile(r"[\s,.\-–—:/]{0,5}")
O_IN_NUMBER = re.compile(r"(?<=\d)[oо]+(?=[\s().-]{0,2}[\d(зo]|\b)|(?<![^\W\d_])[oо]+(?=[\s-]?\d)")
THREE_IN_NUMBER = re.compile(r"(?<=[\d+])[зz]+(?=[\d\s().-]|\b)|(?<=\d )з+(?= ?\d)|(?<=\d-)з+(?=-?\d)")


def dictated(text: str) -> str:
    """Runs of number words as digits, each number by itself: "нуль шістдесят сім" is "0 67"."""
    pieces, run, last = [], list[re.Match[str]](), 0
    for term in TERM.finditer(text):
        known = term[0].isdigit() or _word(term[0]) in VALUES
        if run and (not known or not BETWEEN.fullmatch(text, run[-1].end(), term.start())):
            pieces += [text[last : run[0].start()], _digits(run, text)]
            last, run = run[-1].end(), []
        run += [term] * known
    if run:
        pieces += [text[last : run[0].start()], _digits(run, text)]
        last = run[-1].end()
    return "".join([*pieces, text[last:]])


def lettered(text: str) -> str:
    """О and З within numbers as 0 and 3; the text is folded."""
    for _ in range(2):
        text = THREE_IN_NUMBER.sub(lambda found: "3" * len(found[0]), text)
        text = O_IN_NUMBER.sub(lambda found: "0" * len(found[0]), text)
    return text


def _word(term: str) -> str:
    return re.sub(r"['’ʼ`´]", "", term)


def _digits(run: list[re.Match[str]], text: str) -> str:
    if sum(not term[0].isdigit() for term in run) < FEWEST:
        return text[run[0].start() : run[-1].end()]
    numbers: list[str] = []
    room = 0  # what may still be added to the number that was said last
    for term in run:
        value = VALUES.get(_word(term[0]))
        if value is not None and 0 < value < room:
            numbers[-1] = str(int(numbers[-1]) + value)
        else:
            numbers.append(term[0] if value is None else str(value))
        room = 0 if value is None else 100 if value >= 100 else 10 if value >= 20 else 0  # noqa: PLR2004  places
    return " ".join(numbers)
