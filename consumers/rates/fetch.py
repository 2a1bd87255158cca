"""An inquiry: one bank is asked, its answer read, and each wanted rate compared with the last one that is stored."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from consumers.rates import queries
from consumers.rates.banks import KYIV, Answer, Bank, BankFailed, Quote, listed
from consumers.rates.http import ask
from consumers.rates.queries import Last
from pocketwatch.worker.context import JobContext

LARGEST_MOVE = Decimal("0.2")  # of the last rate; a misplaced point moves it by 0.9 or more


@dataclass(kw_only=True)
class Inquiry:
    """What asking a bank has come to.

    Args:
        required: the currencies that the bank should have; that others are missing is normal.
        accepted: what is to be stored.
        refused: why a currency is not, by currency or place in the answer; those in `held_back` among them.
        not_offered: of those, the currencies that a sound answer did not name.
        failure: why nothing at all could be accepted.
    """

    bank: Bank
    required: Sequence[str]
    started_at: datetime
    seconds: float = 0.0
    accepted: list[Quote] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    held_back: list[str] = field(default_factory=list)
    not_offered: list[str] = field(default_factory=list)
    failure: str | None = None

    @property
    def missing(self) -> dict[str, str]:
        """Why a currency that it should have has no rate."""
        return {currency: why for currency, why in self.refused.items() if currency in self.required}

    @property
    def is_unknown_to_it(self) -> bool:
        """The bank has answered as it should, and has nothing by these names."""
        return set(self.not_offered) == set(self.required)

    @property
    def finished_at(self) -> datetime:
        """When the last word about it was said."""
        return self.started_at + timedelta(seconds=self.seconds)


async def inquire(
    bank: Bank, job: JobContext, *, wanted: Sequence[str], required: Sequence[str], accept_moves: bool, since: float
) -> Inquiry:
    """Ask a bank for these rates; that it fails is a result like another.

    Args:
        since: what `time.monotonic()` said when the run began, at `work.now`.
    """
    began = time.monotonic()
    inquiry = Inquiry(bank=bank, required=required, started_at=job.now + timedelta(seconds=began - since))
    try:
        body = await ask(bank.url(job.settings.rates))
        answer = bank.read(body, today=job.now.astimezone(KYIV).date())
    except BankFailed as error:
        inquiry.failure = str(error)
        inquiry.refused = dict.fromkeys(required, str(error))
    else:
        async with job.transaction() as connection:
            last = await queries.last_rates(connection, bank.name, wanted)
        _sort(inquiry, answer, wanted=wanted, last={} if accept_moves else last)
    inquiry.seconds = time.monotonic() - began
    return inquiry


def _sort(inquiry: Inquiry, answer: Answer, *, wanted: Sequence[str], last: Mapping[str, Last]) -> None:
    """What is accepted, and why the rest is not."""
    for currency in wanted:
        quote = answer.quotes.get(currency)
        if quote is None:
            _note_missing(inquiry, answer, currency)
        elif (move := _implausible(quote, last.get(currency))) is not None:
            inquiry.refused[currency] = move
            inquiry.held_back.append(currency)
        else:
            inquiry.accepted.append(quote)
    strays = {place: why for place, why in answer.problems.items() if place.startswith("row ")}
    inquiry.refused |= strays
    if not inquiry.accepted:
        inquiry.failure = f"no rate can be used: {listed(inquiry.refused)}"


def _note_missing(inquiry: Inquiry, answer: Answer, currency: str) -> None:
    if currency in answer.problems:
        inquiry.refused[currency] = answer.problems[currency]
    elif currency in inquiry.required:
        inquiry.refused[currency] = f"{inquiry.bank.name} has no rate for it"
        if answer.quotes:
            inquiry.not_offered.append(currency)


def _implausible(quote: Quote, last: Last | None) -> str | None:
    """Why a rate is held back: it has moved further than rates do."""
    if last is None or abs(quote.rate - last.rate) <= LARGEST_MOVE * last.rate:
        return None
    return (
        f"moved from {last.rate} ({last.source}, {last.day}) to {quote.rate}, by more than {LARGEST_MOVE:.0%}, "
        "and is held back. If that is right: --set accept_moves=true"
    )
