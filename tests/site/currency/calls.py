"""The site's own rate tasks, shaped as its Celery workers run them, and what its pages ask of a rate."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.core.exceptions import MultipleObjectsReturned
from django.utils import timezone

from tests.site.currency.models import CURRENCIES, CurrencyRate

Rows = list[dict[str, Any]]
Outcomes = dict[str, str]  # created, updated or an error, by currency


def fresh(*, hours: float = 0) -> dict[str, bool]:
    """Return for each currency whether the site, so many hours later, still shows its rate without asking a bank."""
    later = timezone.now() + timedelta(hours=hours)
    return {currency: _latest(currency).is_fresh(later) for currency, _ in CURRENCIES if currency != "UAH"}


def shown() -> dict[str, str]:
    """Return the rates that prices are converted with."""
    return {currency: str(_latest(currency).rate) for currency, _ in CURRENCIES if currency != "UAH"}


def save(*, currency: str, rate: str) -> int:
    """Insert a rate, as an operator does by a form."""
    return int(CurrencyRate.objects.create(target_currency=currency, rate=Decimal(rate)).pk)


def run_tasks(*, nbu: Rows, privatbank: Rows, days: list[int]) -> list[list[Outcomes]]:
    """Run the morning's task and the afternoon's on each of these days, counted from today, and the morning's again."""
    return [
        [update_from_nbu(nbu, day), update_from_privatbank(privatbank, day), update_from_nbu(nbu, day)] for day in days
    ]


def update_from_nbu(rows: Rows, day: int = 0) -> Outcomes:
    """Store the NBU's rates over whatever row of the day there is: the source is not looked at."""
    return {row["cc"]: _save(row["cc"], row["rate"], row, _on(day), defaults={"source": "NBU"}) for row in _known(rows)}


def update_from_privatbank(rows: Rows, day: int = 0) -> Outcomes:
    def mean(row: dict[str, Any]) -> float:
        return (float(row["buy"]) + float(row["sale"])) / 2

    return {row["ccy"]: _save(row["ccy"], mean(row), row, _on(day), source="PRIVATBANK") for row in _known(rows)}


def _known(rows: Rows) -> Rows:
    return [row for row in rows if (row.get("cc") or row.get("ccy")) in dict(CURRENCIES)]


def _on(day: int) -> datetime:
    return timezone.now() + timedelta(days=day)


def _save(
    currency: str,
    rate: float,
    raw: dict[str, Any],
    now: datetime,
    *,
    defaults: dict[str, Any] | None = None,
    **key: str,
) -> str:
    values = {"rate": Decimal(str(rate)), "fetched_at": now, "is_active": True, "raw_data": raw} | (defaults or {})
    try:
        _, created = CurrencyRate.objects.update_or_create(
            base_currency="UAH", target_currency=currency, fetched_at__date=now.date(), **key, defaults=values
        )
    except MultipleObjectsReturned as error:
        return type(error).__name__
    return "created" if created else "updated"


def _latest(currency: str) -> CurrencyRate:
    return CurrencyRate.objects.filter(base_currency="UAH", target_currency=currency, is_active=True).latest(
        "fetched_at"
    )
