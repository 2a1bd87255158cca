from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models
from django.utils import timezone

CURRENCIES = [(code, code) for code in ("USD", "EUR", "UAH", "PLN", "GBP")]
SOURCES = [(name, name) for name in ("NBU", "PRIVATBANK", "EXCHANGERATE_API", "FIXER_IO", "MANUAL")]


class CurrencyRate(models.Model):
    base_currency = models.CharField(max_length=3, choices=CURRENCIES, default="UAH")
    target_currency = models.CharField(max_length=3, choices=CURRENCIES)
    rate = models.DecimalField(max_digits=12, decimal_places=6)
    source = models.CharField(max_length=20, choices=SOURCES, default="NBU")
    fetched_at = models.DateTimeField(default=timezone.now)
    is_active = models.BooleanField(default=True)
    raw_data = models.JSONField(blank=True, null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "currency_rates"
        unique_together = (("base_currency", "target_currency", "fetched_at"),)
        indexes: ClassVar = [
            models.Index(fields=["base_currency", "target_currency", "-fetched_at"]),
            models.Index(fields=["source", "-fetched_at"]),
            models.Index(fields=["is_active", "-fetched_at"]),
        ]

    def is_fresh(self, now: datetime | None = None) -> bool:
        """Whether the site shows the rate without asking the bank itself."""
        return (now or timezone.now()) - self.fetched_at <= timedelta(hours=24)


class CurrencyUpdateLog(models.Model):
    started_at = models.DateTimeField(default=timezone.now)
    completed_at = models.DateTimeField(null=True, blank=True)
    status = models.CharField(
        max_length=10, choices=[(name, name) for name in ("SUCCESS", "PARTIAL", "FAILED", "SKIPPED")], default="SUCCESS"
    )
    source = models.CharField(max_length=20, choices=SOURCES)
    currencies_updated = models.PositiveIntegerField(default=0)
    currencies_failed = models.PositiveIntegerField(default=0)
    success_details = models.JSONField(blank=True, null=True)
    error_details = models.JSONField(blank=True, null=True)
    triggered_by = models.CharField(max_length=50, default="celery_beat")
    duration_seconds = models.FloatField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "currency_update_logs"
