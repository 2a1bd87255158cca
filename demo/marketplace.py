"""A small marketplace: the platform's tables, and refresh tokens of simplejwt.

    python -m demo.marketplace make                     create the tables; simplejwt's by its own migrations
    python -m demo.marketplace issue < lots.json        issue tokens: [{"count": 3, "issued_days_ago": 70}]
    python -m demo.marketplace fill < lots.json         both, but no tokens if there are some
    python -m demo.marketplace flush                    run simplejwt's own clean-up, for comparison

Reads DATABASE_URL. The demo, the tests and the benches use it; the suite does not depend on Django.
"""

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import django
from django.apps import AppConfig
from django.conf import settings

PLATFORM = Path(__file__).parent / "platform.sql"
REFRESH_LIFETIME = timedelta(days=30)
USERS = 20


class Users(AppConfig):
    """The app of the platform's user model; platform.sql creates its table."""

    name = "demo"
    label = "users"
    default_auto_field = "django.db.models.BigAutoField"


def configure() -> None:
    url = urlsplit(os.environ["DATABASE_URL"])
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.path.removeprefix("/"),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": url.hostname,
        "PORT": url.port or 5432,
    }
    apps = [
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "demo.marketplace.Users",
        "rest_framework_simplejwt.token_blacklist",
    ]
    jwt = {"SIGNING_KEY": "the demo's key, which protects nothing", "REFRESH_TOKEN_LIFETIME": REFRESH_LIFETIME}
    settings.configure(
        SECRET_KEY="demo",
        USE_TZ=True,
        DATABASES={"default": database},
        INSTALLED_APPS=apps,
        AUTH_USER_MODEL="users.User",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SIMPLE_JWT=jwt,
    )
    django.setup()


def make() -> None:
    """Create the platform's tables and some users; safe to repeat."""
    from django.core.management import call_command  # noqa: PLC0415  Django must be set up first
    from django.db import connection  # noqa: PLC0415

    with connection.cursor() as cursor:
        if "auth_user" not in connection.introspection.table_names(cursor):
            cursor.execute(PLATFORM.read_text(encoding="utf-8"))
            cursor.execute(
                "INSERT INTO auth_user (password, email, is_active, is_staff, is_superuser, created_at, updated_at) "
                "SELECT '', 'user' || n || '@example.com', true, false, false, now(), now() "
                "FROM generate_series(1, %s) n",
                [USERS],
            )
    call_command("migrate", "token_blacklist", verbosity=0)


def issue(lots: list[dict[str, Any]]) -> dict[str, int]:
    """Issue tokens in the past, as the login view would have done, and return the counts of all tokens.

    Args:
        lots: each with `count`, `issued_days_ago` (30 days before they expire), and optionally `blacklist` (how many
            are revoked) and `kind` (`refresh` or `sliding`).
    """
    from django.contrib.auth import get_user_model  # noqa: PLC0415
    from rest_framework_simplejwt import tokens  # noqa: PLC0415
    from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken  # noqa: PLC0415
    from rest_framework_simplejwt.utils import aware_utcnow  # noqa: PLC0415

    users = list(get_user_model().objects.all())
    kinds: dict[str, Any] = {"refresh": tokens.RefreshToken, "sliding": tokens.SlidingToken}
    for lot in lots:
        then = aware_utcnow() - timedelta(days=lot["issued_days_ago"])
        with patch.object(tokens, "aware_utcnow", return_value=then):
            issued = [kinds[lot.get("kind", "refresh")].for_user(users[n % len(users)]) for n in range(lot["count"])]
        for token in issued[: lot.get("blacklist", 0)]:
            token.blacklist()
    return {"outstanding": OutstandingToken.objects.count(), "blacklisted": BlacklistedToken.objects.count()}


def fill(lots: list[dict[str, Any]]) -> None:
    from rest_framework_simplejwt.token_blacklist.models import OutstandingToken  # noqa: PLC0415

    make()
    if not OutstandingToken.objects.exists():
        issue(lots)


def flush() -> dict[str, float]:
    from django.core.management import call_command  # noqa: PLC0415

    began = time.perf_counter()
    call_command("flushexpiredtokens")
    return {"seconds": time.perf_counter() - began}


def main(verb: str) -> None:
    configure()
    if verb == "make":
        make()
    elif verb == "issue":
        print(json.dumps(issue(json.load(sys.stdin))))
    elif verb == "fill":
        fill(json.load(sys.stdin))
    elif verb == "flush":
        print(json.dumps(flush()))
    else:
        sys.exit(f'verb "{verb}": unknown; use make, issue, fill or flush')


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
