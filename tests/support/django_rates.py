"""The platform's Django model of a rate, in a separate process.

    python -m tests.support.django_rates save CURRENCY RATE     inserts a row, prints its id
    python -m tests.support.django_rates latest CURRENCY        prints the rate that prices are converted with

Reads DATABASE_URL.
"""

import sys
from decimal import Decimal

from demo.marketplace import configure


def main(verb: str, currency: str, rate: str = "") -> None:
    configure()
    from django.db import models  # noqa: PLC0415  Django must be set up first
    from django.utils import timezone  # noqa: PLC0415

    class CurrencyRate(models.Model):  # noqa: DJ008  never printed
        base_currency = models.CharField(max_length=3, default="UAH")
        target_currency = models.CharField(max_length=3)
        rate = models.DecimalField(max_digits=12, decimal_places=6)
        source = models.CharField(max_length=20, default="NBU")
        fetched_at = models.DateTimeField(default=timezone.now)
        is_active = models.BooleanField(default=True)
        raw_data = models.JSONField(blank=True, null=True)
        created_at = models.DateTimeField(auto_now_add=True)
        updated_at = models.DateTimeField(auto_now=True)

        class Meta:
            app_label = "users"
            db_table = "currency_rates"
            managed = False

    if verb == "save":
        row = CurrencyRate.objects.create(target_currency=currency, rate=Decimal(rate), raw_data={"rate": rate})
        print(row.pk)  # noqa: T201
    else:
        of_currency = CurrencyRate.objects.filter(base_currency="UAH", target_currency=currency, is_active=True)
        print(of_currency.latest("fetched_at").rate)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
