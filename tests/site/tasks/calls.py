"""The site sends its tasks, and reads back what became of them, through its own models, storage and Redis."""

import json
import os
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

from celery.result import AsyncResult
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from django_redis import get_redis_connection
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import RefreshToken

from tests.site.accounts.models import AddsAccount
from tests.site.ads.calls import quick_stats
from tests.site.ads.models import CarAd, CarMarkModel, CityModel, RegionModel, VehicleTypeModel
from tests.site.celery_app import app
from tests.site.currency.models import CurrencyRate
from tests.site.moderation.models import ManagerNotificationSettings, ModerationAction, ModerationNotification
from tests.site.users.models import ProfileModel, UserModel

KEY = "pocketwatch:analytics:"
OLD = "2020-01-01T00:00:00+00:00"


def prepare(*, owner: str, manager: str, ads: list[str]) -> dict[str, Any]:
    """Make an owner with an ad for each of these titles, a manager, tokens, media, old rates and a stale key."""
    seller = UserModel.objects.create(email=owner, is_active=True)
    reader = UserModel.objects.create(email=manager, is_active=True, is_staff=True)
    clerk = UserModel.objects.create(email=f"clerk.{manager}", is_active=True, is_staff=True)
    settings = ManagerNotificationSettings.objects.create(manager=reader)
    redis = get_redis_connection("default")
    redis.flushdb()
    redis.set(f"{KEY}platform:old", json.dumps({"kind": "platform", "generated_at": OLD}))
    CurrencyRate.objects.create(target_currency="USD", rate=Decimal(41), fetched_at=_ago(50))
    return {
        "owner": seller.pk,
        "manager": reader.pk,
        "clerk": clerk.pk,
        "settings": settings.pk,
        "ads": dict(zip(ads, _ads(seller, ads), strict=True)),
        "tokens": {
            "expired": _token(seller, 40),
            "revoked": _token(seller, -20),
            "valid": _token(seller, -21, revoke=False),
        },
        "files": _files(seller),
        "rate": CurrencyRate.objects.create(target_currency="USD", rate=Decimal(40), fetched_at=_ago(60)).pk,
    }


def send(*, tasks: list[tuple[str, list[Any], dict[str, Any]]]) -> list[str]:
    return [app.send_task(name, arguments, named).id for name, arguments, named in tasks]


def states(*, ids: list[str]) -> list[str]:
    """Wait for each result, and return its state."""
    results = [AsyncResult(each, app=app) for each in ids]
    for result in results:
        result.get(timeout=30)
    return [result.status for result in results]


def read(*, made: dict[str, Any]) -> dict[str, Any]:
    return {
        "tokens": {name: _accepts(token) for name, token in made["tokens"].items()},
        "token_rows": OutstandingToken.objects.filter(user=made["owner"]).count(),
        "files": {name: default_storage.exists(name) for name in made["files"]},
        "rates": [
            {"target": rate.target_currency, "source": rate.source, "fresh": rate.is_fresh(), "id": rate.pk}
            for rate in CurrencyRate.objects.filter(base_currency="UAH", is_active=True).order_by("fetched_at")
        ],
        "analytics": _analytics(),
        "quick_stats": quick_stats(),
        "daily_report": cache.get("latest_daily_report"),
        "ads": {ad.title: (ad.status, ad.is_validated) for ad in CarAd.objects.all()},
        "notifications": [
            {
                "title": row.title,
                "ad_id": row.ad_id,
                "action": row.action,
                "data": row.data,
                "status": row.status,
                "manager": row.manager_id,
                "read": _reads(row),
            }
            for row in ModerationNotification.objects.filter(manager__in=(made["manager"], made["clerk"]))
        ],
    }


def _ago(days: float) -> Any:
    return timezone.now() - timedelta(days=days)


def _ads(owner: UserModel, titles: list[str]) -> list[int]:
    kind = VehicleTypeModel.objects.create(name="car", slug="car")
    region = RegionModel.objects.create(name="Полтавська")
    parents: dict[str, Any] = {
        "account": AddsAccount.objects.create(user=owner),
        "mark": CarMarkModel.objects.create(name="ZAZ", vehicle_type=kind),
        "region": region,
        "city": CityModel.objects.create(name="Полтава", region=region),
    }
    text = "Один власник, гаражне зберігання, свіжий сервіс, нова гума."
    return [CarAd.objects.create(title=title, description=text, status="pending", **parents).pk for title in titles]


def _token(user: UserModel, expired_days_ago: float, *, revoke: bool = True) -> str:
    token = RefreshToken()
    token["user_id"] = str(user.pk)
    token.set_exp(from_time=_ago(expired_days_ago), lifetime=timedelta())
    row = OutstandingToken.objects.create(
        user=user, jti=token["jti"], token=str(token), expires_at=_ago(expired_days_ago), created_at=_ago(60)
    )
    if revoke:
        BlacklistedToken.objects.create(token=row)
    return str(token)


def _accepts(token: str) -> bool:
    try:
        RefreshToken(token)
    except TokenError:
        return False
    return True


def _files(owner: UserModel) -> list[str]:
    """Store an old file that no row names, and an avatar."""
    names = [default_storage.save(f"{folder}/{folder}.png", ContentFile(b"x")) for folder in ("generated", "avatars")]
    for name in names:
        os.utime(default_storage.path(name), (time.time() - 30 * 86400,) * 2)
    ProfileModel.objects.create(user=owner, avatar_url=f"/api/media/{names[1]}")
    return names


def _analytics() -> dict[str, Any]:
    client = get_redis_connection("default")
    keys = [key.decode() for key in client.scan_iter(f"{KEY}*")]
    return {key.removeprefix(KEY): json.loads(client.get(key)) for key in keys}


def _reads(row: ModerationNotification) -> bool:
    """Whether the manager's "mark as read" works on it, and Django's form accepts it."""
    as_given = row.action not in ModerationAction.values  # the task stores any action
    row.full_clean(exclude=["action"] if as_given else None)
    row.mark_as_read()
    return row.status == "read"
