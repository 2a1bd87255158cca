"""Currency rates: fetched from a bank, and stored once for each day that they are for.

When the NBU has nothing that can be used, PrivatBank is asked in the same run. Only what nobody can tell is tried
again: then the run fails, and says why in both logs.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType

from consumers.rates import queries, update_log
from consumers.rates.banks import NBU, PRIVATBANK, Bank, BankFailed, Source, listed
from consumers.rates.fetch import Inquiry, inquire
from consumers.rates.queries import Stored
from consumers.rates.staleness import ages
from pocketwatch.errors import PocketwatchError, Reject
from pocketwatch.storage.tables.suite import currency_update_logs
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.facts import Rate, RatesUpdated
from schemas.ticks import UpdateRates

# Whom a run asks, until one has something that can be used.
ASKED: Mapping[Source, tuple[Bank, ...]] = MappingProxyType({"NBU": (NBU, PRIVATBANK), "PRIVATBANK": (PRIVATBANK,)})


@consumer
async def update_rates(tick: UpdateRates, job: JobContext) -> None:
    """Nothing that is not certain is written, and the last good rate stays."""
    wanted = list(dict.fromkeys(tick.currencies or job.settings.rates.currencies))
    inquiries = await _inquiries(tick, job, wanted)
    if not inquiries:
        job.record(**await _statistics(job, wanted, inquiries, {}))
        job.mark_skipped(f"{tick.source} has none of the wanted currencies: {', '.join(wanted)}")
        return
    answered = inquiries[-1]
    if not answered.accepted:
        await _log_failures(job, inquiries)
        raise _failure(tick, inquiries)
    stored = await queries.store(job.session, answered.bank.name, answered.accepted, now=job.now)
    job.record(**await _statistics(job, wanted, inquiries, stored))
    _report(job, inquiries, stored)


async def _inquiries(tick: UpdateRates, job: JobContext, wanted: Sequence[str]) -> list[Inquiry]:
    """The bank that was named, and the other one if need be: the last can be used, or none."""
    inquiries: list[Inquiry] = []
    began = time.monotonic()
    for bank in ASKED[tick.source]:
        required = _required(bank, tick, wanted)
        if required and not (inquiries and inquiries[-1].accepted):
            inquiries.append(
                await inquire(bank, job, wanted=wanted, required=required, accept_moves=tick.accept_moves, since=began)
            )
    return inquiries


def _required(bank: Bank, tick: UpdateRates, wanted: Sequence[str]) -> Sequence[str]:
    """Which of the wanted currencies the bank should have: all that somebody asked for by name, else what it offers."""
    if tick.currencies is not None or bank.offers is None:
        return wanted
    return [currency for currency in wanted if currency in bank.offers]


async def _log_failures(job: JobContext, inquiries: Sequence[Inquiry]) -> None:
    """In a transaction of its own: that of the run is rolled back."""
    lines = [update_log.failed_line(inquiry, job.envelope) for inquiry in inquiries]
    async with job.transaction() as connection:
        await queries.log_failures(connection, lines, message_id=job.message_id, attempt=job.envelope.attempts)


def _failure(tick: UpdateRates, inquiries: Sequence[Inquiry]) -> PocketwatchError:
    words = "; ".join(f"{inquiry.bank.name}: {inquiry.failure}" for inquiry in inquiries)
    if tick.currencies is not None and all(inquiry.is_unknown_to_it for inquiry in inquiries):
        return Reject(words)  # a name that no bank knows: they will not know it later either
    return BankFailed(words)


async def _statistics(
    job: JobContext, wanted: Sequence[str], inquiries: Sequence[Inquiry], stored: Mapping[str, Stored]
) -> dict[str, float]:
    """The figures of a run, always all of them; ages are those after it."""
    due = set(inquiries[0].required if inquiries else ()) | set(stored)
    unchanged = sum(outcome.action == "unchanged" for outcome in stored.values())
    known = await ages(job.session, wanted, now=job.now)
    return {
        "currencies_updated": len(stored) - unchanged,
        "currencies_unchanged": unchanged,
        "currencies_failed": len(due) - len(stored),
        "held_back": sum(len(inquiry.held_back) for inquiry in inquiries),
        "fallback": int(len(inquiries) > 1),
        "oldest_age_hours": round(max(known.values(), default=timedelta(0)) / timedelta(hours=1), 1),
        "without_rate": len(wanted) - len(known),
    }


def _report(job: JobContext, inquiries: Sequence[Inquiry], stored: Mapping[str, Stored]) -> None:
    """Both logs, and the fact."""
    *failed, answered = inquiries
    reasons = [f"{one.bank.name} failed, {answered.bank.name} was asked instead: {one.failure}" for one in failed]
    if answered.missing:
        reasons.append(f"{answered.bank.name}: {listed(answered.missing)}")
    if reasons:
        job.mark_partial("; ".join(reasons))
    for inquiry in failed:
        job.insert(currency_update_logs, **update_log.failed_line(inquiry, job.envelope))
    job.insert(currency_update_logs, **update_log.line(answered, stored, job.envelope))
    rates = [
        Rate(currency=quote.currency, rate=str(quote.rate), rate_date=quote.rate_date.isoformat())
        for quote in answered.accepted
    ]
    fact = RatesUpdated(source=answered.bank.name, fallback_for="NBU" if failed else None, rates=rates)
    job.publish(fact)
