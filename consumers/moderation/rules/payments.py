"""Where money is to be sent: numbers of payment cards and of crypto wallets."""

import re
from collections.abc import Iterator
from typing import Literal

from consumers.moderation.rules.rule import TextRule
from consumers.moderation.rules.text import Reading

CARD = re.compile(r"(?<![\d-])[2-6]\d{3}([ -]?)\d{4}\1\d{4}\1\d{4}(?![\d-])")
# Ethereum and its kin; Bitcoin with and without bech32; Tron. Base 58 has no 0, O, I and l.
WALLET = re.compile(
    r"(?<!\w)(?:0x[0-9a-fA-F]{40}|bc1[02-9ac-hj-np-z]{25,59}|T[1-9A-HJ-NP-Za-km-z]{33}|[13][1-9A-HJ-NP-Za-km-z]{26,33})(?!\w)"
)


class Card(TextRule):
    """Numbers of payment cards, with a right check digit."""

    kind: Literal["card"]

    def find(self, reading: Reading) -> Iterator[str]:
        """Sixteen digits, in fours or in one piece."""
        yield from (found[0] for found in CARD.finditer(reading.plain) if is_card(found[0]))


class Wallet(TextRule):
    """Addresses of crypto wallets."""

    kind: Literal["wallet"]

    def find(self, reading: Reading) -> Iterator[str]:
        """Case counts in them, so that they are looked for in what the owner wrote."""
        text = f"{reading.ad.title}\n{reading.ad.description}"
        yield from (found[0] for found in WALLET.finditer(text) if _is_wallet(found[0]))


def is_card(number: str) -> bool:
    """Whether the check digit is right (Luhn)."""
    digits = [int(sign) for sign in number if sign.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _is_wallet(address: str) -> bool:
    """Not just a long word or a long number."""
    return any(sign.isdigit() for sign in address) and any(sign.isalpha() for sign in address[1:])
