"""Fetch the rates of one bank, and compare each wanted rate with the last stored one."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from consumers.rates import queries
from consumers.rates.banks import KYIV, Answer, Bank, Quote, summarize
from consumers.rates.errors import BankFailed
from consumers.rates.queries import LastRate
from pocketwatch.worker.context import JobContext

MAX_MOVE = Decimal("0.2")  # of the last rate; a misplaced decimal point moves a rate by 0.9 or more


@dataclass(kw_only=True)
class FetchResult:
    """What a bank's answer came to.

    Args:
        required: the currencies that the bank should have; others may be missing.
        accepted: the quotes to store.
        refused: the reasons for the others, by currency or place in the answer, including those of `held_back`.
        not_offered: the required currencies that a valid answer does not contain.
        failure: why nothing was accepted.
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
        """The required currencies without a rate, with the reasons."""
        return {currency: reason for currency, reason in self.refused.items() if currency in self.required}

    @property
    def offers_none(self) -> bool:
        """Whether a valid answer contains none of the required currencies."""
        return set(self.not_offered) == set(self.required)

    @property
    def finished_at(self) -> datetime:
        return self.started_at + timedelta(seconds=self.seconds)


async def fetch(
    bank: Bank, job: JobContext, *, wanted: Sequence[str], required: Sequence[str], accept_moves: bool, since: float
) -> FetchResult:
    """Fetch these rates; a bank that fails is a result, not an error.

    Args:
        since: `time.monotonic()` at `job.now`.
    """
    from consumers.rates import http  # noqa: PLC0415  5 MB and 60 ms

    began = time.monotonic()
    result = FetchResult(bank=bank, required=required, started_at=job.now + timedelta(seconds=began - since))
    url = bank.url(job.settings.rates)
    try:
        body = await http.get(url)
        answer = await asyncio.to_thread(bank.read, body, today=job.now.astimezone(KYIV).date())
    except BankFailed as error:
        result.failure = f"{error} (URL {http.shown(url)})"
        result.refused = dict.fromkeys(required, str(error))
    else:
        async with job.transaction() as connection:
            last = await queries.last_rates(connection, bank.name, wanted)
        _sort(result, answer, wanted=wanted, last={} if accept_moves else last)
    result.seconds = time.monotonic() - began
    return result


def _sort(result: FetchResult, answer: Answer, *, wanted: Sequence[str], last: Mapping[str, LastRate]) -> None:
    for currency in wanted:
        if currency in answer.problems:
            result.refused[currency] = answer.problems[currency]
        elif (quote := answer.quotes.get(currency)) is None:
            _add_missing(result, answer, currency)
        elif (reason := _implausible_move(quote, last.get(currency))) is not None:
            result.refused[currency] = reason
            result.held_back.append(currency)
        else:
            result.accepted.append(quote)
    result.refused |= answer.unparsed_rows
    if not result.accepted:
        result.failure = f"no usable rate: {summarize(result.refused)}"


def _add_missing(result: FetchResult, answer: Answer, currency: str) -> None:
    if currency in result.required:
        result.refused[currency] = f"{result.bank.name} has no rate for it"
        if answer.quotes:
            result.not_offered.append(currency)


def _implausible_move(quote: Quote, last: LastRate | None) -> str | None:
    if last is None or abs(quote.rate - last.rate) <= MAX_MOVE * last.rate:
        return None
    return (
        f"moved from {last.rate} ({last.source}, {last.day}) to {quote.rate}, by more than {MAX_MOVE:.0%}, "
        "and is held back; to accept it, use --set accept_moves=true"
    )
