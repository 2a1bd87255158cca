"""What the site's API does: it answers from its cache, or computes the figures and keeps them there for a while."""

from datetime import date
from typing import Any

from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db.models import Count
from django.utils import timezone

from tests.site.accounts.models import AddsAccount
from tests.site.ads.models import AdView, CarAd


def quick_stats() -> dict[str, Any]:
    if cached := cache.get("quick_stats"):
        return {"data": cached, "source": "cache"}
    users, today = get_user_model().objects, timezone.now().date()
    computed = {
        "total_ads": CarAd.objects.count(),
        "active_ads": CarAd.objects.filter(status="active").count(),
        "total_users": users.count(),
        "active_users": users.filter(is_active=True).count(),
        "total_views": AdView.objects.count(),
        "premium_accounts": AddsAccount.objects.filter(account_type__iexact="premium").count(),
        "today_ads": CarAd.objects.filter(created_at__date=today).count(),
        "today_views": AdView.objects.filter(created_at__date=today).count(),
        "generated_at": timezone.now().isoformat(),
    }
    cache.set("quick_stats", computed, timeout=60)
    return {"data": computed, "source": "computed"}


def daily_report(*, day: str | None = None) -> dict[str, Any]:
    wanted = timezone.now().date() if day is None else date.fromisoformat(day)
    cached = cache.get("latest_daily_report")
    if cached and cached["date"] == wanted.isoformat():
        return {"data": cached, "source": "cache"}
    created = CarAd.objects.filter(created_at__date=wanted)
    makes = created.values("mark__name").annotate(count=Count("id")).order_by("-count", "mark__name")
    computed = {
        "date": wanted.isoformat(),
        "ads_created": created.count(),
        "ads_activated": CarAd.objects.filter(status="active", updated_at__date=wanted).count(),
        "users_registered": get_user_model().objects.filter(created_at__date=wanted).count(),
        "total_views": AdView.objects.filter(created_at__date=wanted).count(),
        "top_categories": list(makes[:5]),
        "generated_at": timezone.now().isoformat(),
        "source": "direct_generation",
    }
    cache.set("latest_daily_report", computed, timeout=3600)
    return {"data": computed, "source": "computed"}


def remember(*, key: str, version: int | None = None) -> None:
    """Keep something in the cache for good."""
    cache.set(key, {"kept": True}, timeout=None, version=version)


def validated() -> list[int]:
    return list(CarAd.objects.filter(is_validated=True).order_by("id").values_list("id", flat=True))


def pending() -> list[int]:
    return list(CarAd.objects.filter(is_validated=False).order_by("id").values_list("id", flat=True))
