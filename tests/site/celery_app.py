"""The site's Celery app: `celery -A tests.site.celery_app worker …`, and what the web process sends tasks with."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site.settings")
app = Celery("site", include=["tests.site.workers"])
app.config_from_object("django.conf:settings", namespace="CELERY")
