"""Fetch currency rates from a bank, and store them once for each day.

If the NBU has nothing usable, the same run falls back to PrivatBank. If no bank has, the run fails and is retried.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from consumers.rates import queries
from consumers.rates.banks import NBU, PRIVATBANK, Bank, Source, summarize
from consumers.rates.errors import BankFailed
from consumers.rates.fetch import FetchResult, fetch
from consumers.rates.queries import StoredRate
from pocketwatch.errors import PocketwatchError, Reject
from pocketwatch.storage.tables.suite import currency_update_logs
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas.envelope import Envelope
from schemas.facts import Rate, RatesUpdated
from schemas.ticks import UpdateRates

# In order of preference.
BANKS_OF: Mapping[Source, tuple[Bank, ...]] = MappingProxyType({"NBU": (NBU, PRIVATBANK), "PRIVATBANK": (PRIVATBANK,)})


@consumer
async def update_rates(tick: UpdateRates, job: JobContext) -> None:
    wanted = list(dict.fromkeys(tick.currencies or job.settings.rates.currencies))
    if tick.instead_of is not None:
        job.record(instead_of=tick.instead_of)
    results = await _fetch(tick, job, wanted)
    if not results:
        job.record(**await _statistics(job, wanted, results, {}))
        job.mark_skipped(f"{tick.source} has none of the wanted currencies: {', '.join(wanted)}")
        return
    used = results[-1]
    if not used.accepted:
        await _log_failures(tick, job, results)
        raise _failure(tick, results)
    stored = await queries.store(job.session, used.bank.name, used.accepted, now=job.now)
    job.record(**await _statistics(job, wanted, results, stored))
    _report(tick, job, results, stored)


async def _fetch(tick: UpdateRates, job: JobContext, wanted: Sequence[str]) -> list[FetchResult]:
    """Try each bank that has wanted currencies, until one has a usable rate."""
    results: list[FetchResult] = []
    began = time.monotonic()
    for bank in BANKS_OF[tick.source]:
        # A currency that the message names is required of every bank; a default one only where it is offered.
        named = tick.currencies is not None or bank.offers is None
        required = wanted if named else [currency for currency in wanted if currency in (bank.offers or ())]
        if required and not (results and results[-1].accepted):
            results.append(
                await fetch(bank, job, wanted=wanted, required=required, accept_moves=tick.accept_moves, since=began)
            )
    return results


async def _log_failures(tick: UpdateRates, job: JobContext, results: Sequence[FetchResult]) -> None:
    """Log in a separate transaction, because the run's own is rolled back."""
    rows = [_log_row(tick, result, job.envelope) for result in results]
    async with job.transaction() as connection:
        await queries.log_failures(connection, rows, message_id=job.message_id, attempt=job.envelope.attempts)


def _failure(tick: UpdateRates, results: Sequence[FetchResult]) -> PocketwatchError:
    reasons = "; ".join(f"{result.bank.name}: {result.failure}" for result in results)
    if tick.currencies is not None and all(result.offers_none for result in results):
        return Reject(reasons)  # no bank will know these names later either
    return BankFailed(reasons)


async def _statistics(
    job: JobContext, wanted: Sequence[str], results: Sequence[FetchResult], stored: Mapping[str, StoredRate]
) -> dict[str, float]:
    """Return the figures of the run, always all of them; ages are those after it."""
    expected = set(results[0].required if results else ()) | set(stored)
    unchanged = sum(outcome.action == "unchanged" for outcome in stored.values())
    ages = await queries.staleness(job.session, wanted, now=job.now)
    return {
        "currencies_updated": len(stored) - unchanged,
        "currencies_unchanged": unchanged,
        "currencies_failed": len(expected) - len(stored),
        "held_back": sum(len(result.held_back) for result in results),
        "fallback": int(len(results) > 1),
        "oldest_age_hours": round(max(ages.values(), default=timedelta(0)) / timedelta(hours=1), 1),
        "without_rate": len(wanted) - len(ages),
    }


def _report(
    tick: UpdateRates, job: JobContext, results: Sequence[FetchResult], stored: Mapping[str, StoredRate]
) -> None:
    *failed, used = results
    reasons = [f"{one.bank.name} failed, fell back to {used.bank.name}: {one.failure}" for one in failed]
    if used.missing:
        reasons.append(f"{used.bank.name}: {summarize(used.missing)}")
    if reasons:
        job.mark_partial("; ".join(reasons))
    for result in results:
        row = _log_row(tick, result, job.envelope, stored if result is used else None)
        job.insert(currency_update_logs, **row)
    rates = [
        Rate(currency=quote.currency, rate=str(quote.rate), rate_date=quote.rate_date.isoformat())
        for quote in used.accepted
    ]
    fact = RatesUpdated(source=used.bank.name, fallback_for="NBU" if failed else None, rates=rates)
    job.publish(fact)


def _log_row(
    tick: UpdateRates, result: FetchResult, origin: Envelope, stored: Mapping[str, StoredRate] | None = None
) -> dict[str, Any]:
    """Return a row of `currency_update_logs` as the platform's own task wrote it.

    Without `stored`, the fetch failed: the row names message and attempt, so that each attempt has one row.
    """
    errors = [{"currency": currency, "error": reason} for currency, reason in result.refused.items()]
    failure = {"message_id": origin.message_id, "attempt": origin.attempts}
    failure |= {"error": result.failure, "currencies": errors}
    outcomes = stored or {}
    successes = [
        {
            "currency": quote.currency,
            "rate": str(quote.rate),
            "rate_date": quote.rate_date.isoformat(),
            "action": outcomes[quote.currency].action,
            "former": outcomes[quote.currency].former,
        }
        for quote in result.accepted
    ]
    return {
        "started_at": result.started_at,
        "completed_at": result.finished_at,
        "status": "FAILED" if stored is None else "PARTIAL" if result.missing else "SUCCESS",
        "source": result.bank.name,
        "currencies_updated": len(result.accepted),
        "currencies_failed": len(result.missing),
        "success_details": successes,
        "error_details": failure if stored is None else errors,
        "triggered_by": f"{origin.trigger}, for {tick.instead_of}" if tick.instead_of else origin.trigger,
        "duration_seconds": result.seconds,
        "created_at": result.finished_at,
    }
