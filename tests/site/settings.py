"""Settings of the tests' own marketplace: a Django site with the tables, cache and tasks of the one that is migrated.

Reads DATABASE_URL, RABBITMQ_URL, REDIS_URL, MEDIA_ROOT, and SITE_MIGRATIONS: an importable package for the migrations.
"""

import os
from urllib.parse import unquote, urlsplit

_database = urlsplit(os.environ["DATABASE_URL"])
_apps = ("users", "accounts", "ads", "currency", "moderation")

SECRET_KEY = "the tests' key, which protects nothing"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "users.UserModel"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "rest_framework",
    "rest_framework_simplejwt.token_blacklist",
    *(f"tests.site.{app}" for app in _apps),
]
MIGRATION_MODULES = {app: f"{os.environ['SITE_MIGRATIONS']}.{app}" for app in _apps if "SITE_MIGRATIONS" in os.environ}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.removeprefix("/"),
        "USER": unquote(_database.username or ""),
        "PASSWORD": unquote(_database.password or ""),
        "HOST": _database.hostname,
        "PORT": _database.port or 5432,
    }
}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("REDIS_URL", ""),
        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient"},
        "KEY_PREFIX": "autoria",
    }
}
MEDIA_ROOT = os.environ.get("MEDIA_ROOT", "")
MEDIA_URL = "/media/"
CELERY_BROKER_URL = os.environ.get("RABBITMQ_URL", "")
CELERY_RESULT_BACKEND = os.environ.get("REDIS_URL", "")
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = os.environ.get("CELERY_ACCEPT_CONTENT", "json").split(",")
CELERY_RESULT_SERIALIZER = "json"
CELERY_TIMEZONE = "UTC"
