"""What others rely on: names and meanings that change only with a new name beside the old one."""

import typing

import pytest

from console.cli.main import COMMANDS
from pocketwatch import settings
from pocketwatch.storage.tables import suite
from publishers import schedule
from schemas import envelope
from schemas.catalogue import CATALOGUE
from schemas.message import Tick

PAYLOADS: dict[str, dict[str, typing.Any]] = {
    "cleanup.tokens": {"retention_days": 30, "dry_run": False},
    "cleanup.media": {"retention_days": 7, "dry_run": False},
    "cleanup.static_files": {"retention_days": 30, "dry_run": False},
    "cleanup.log_files": {"retention_days": 30, "dry_run": False},
    "cleanup.sessions": {"retention_days": 30, "dry_run": False},
    "rates.update": {"source": "NBU", "currencies": None},
    "rates.cleanup": {"retention_days": 30, "dry_run": False},
    "maintenance.purge_logs": {"retention_days": 90, "dry_run": False},
    "maintenance.archive_ads": {"inactive_days": 180, "dry_run": False},
    "maintenance.vacuum": {"tables": None},
    "analytics.quick_stats": {},
    "analytics.platform": {"locales": ("uk", "en", "ru")},
    "analytics.daily_report": {"day": None},
    "analytics.cleanup": {"dry_run": False},
    "mail.digest": {},
}
SCHEDULE = {
    "clean-blacklisted-tokens-daily": ("0 2 * * *", "cleanup.tokens", {"retention_days": 30}),
    "clean-generated-media-weekly": ("0 3 * * SUN", "cleanup.media", {"retention_days": 7}),
    "clean-sessions-daily": ("30 2 * * *", "cleanup.sessions", {"retention_days": 30}),
    "clean-static-files-weekly": ("30 3 * * SUN", "cleanup.static_files", {"retention_days": 30}),
    "clean-log-files-daily": ("0 4 * * *", "cleanup.log_files", {"retention_days": 30}),
    "update-currency-rates-daily": ("0 8 * * *", "rates.update", {"source": "NBU"}),
    "update-currency-rates-backup": ("0 14 * * *", "rates.update", {"source": "PRIVATBANK"}),
    "cleanup-old-currency-rates": ("0 3 * * *", "rates.cleanup", {"retention_days": 30}),
    "purge-logs-daily": ("30 4 * * *", "maintenance.purge_logs", {"retention_days": 90}),
    "archive-ads-daily": ("45 4 * * *", "maintenance.archive_ads", {"inactive_days": 180}),
    "vacuum-weekly": ("0 5 * * SUN", "maintenance.vacuum", {}),
    "send-manager-digests": ("*/5 * * * *", "mail.digest", {}),
    "generate-quick-stats-every-15min": ("*/15 * * * *", "analytics.quick_stats", {}),
    "cleanup-analytics-cache-daily": ("0 1 * * *", "analytics.cleanup", {}),
    "generate-platform-analytics-hourly": ("0 * * * *", "analytics.platform", {}),
    "generate-daily-report": ("0 9 * * *", "analytics.daily_report", {}),
}
RUN_LOG = [
    "job",
    "entry",
    "message_id",
    "trigger",
    "due_at",
    "started_at",
    "finished_at",
    "status",
    "attempt",
    "dry_run",
    "progress",
    "statistics",
    "error",
    "worker",
]
SETTINGS = [
    "RABBITMQ_URL",
    "RABBITMQ_MANAGEMENT_URL",
    "DATABASE_URL",
    "REDIS_URL",
    "SMTP_URL",
    "POCKETWATCH_MEDIA_ROOT",
    "POCKETWATCH_STATIC_ROOT",
    "POCKETWATCH_LOG_ROOT",
    "POCKETWATCH_NBU_URL",
    "POCKETWATCH_PRIVATBANK_URL",
    "POCKETWATCH_SESSION_KEY_PATTERNS",
    "POCKETWATCH_TIMEZONE",
    "POCKETWATCH_SITE_NAME",
    "POCKETWATCH_SITE_URL",
    "POCKETWATCH_MAIL_FROM",
    "POCKETWATCH_MODERATION_URL",
    "POCKETWATCH_WEB_TOKEN_SECRET",
    "POCKETWATCH_SCHEDULE",
    "POCKETWATCH_GRACE",
    "POCKETWATCH_LOG_FILE",
    "POCKETWATCH_LOG_FORMAT",
]

COMMANDS_OF_OPERATORS = {
    "stack",
    "migrate",
    "publish",
    "consume",
    "run",
    "trigger",
    "schedule",
    "runs",
    "dead",
    "doctor",
}


@pytest.mark.parametrize("key", PAYLOADS)
def test_empty_body_of_a_tick_means_the_defaults(key: str):
    defaults = CATALOGUE[key]().model_dump()

    assert defaults.items() >= PAYLOADS[key].items()


def test_every_tick_field_has_a_default():
    for message in CATALOGUE.values():
        if issubclass(message, Tick):
            message()


def test_schedule_has_the_entries_of_the_contract():
    loaded = schedule.load(None)
    entries = {entry.name: (entry.cron, entry.job, entry.payload) for entry in loaded.entries}

    assert entries.items() >= SCHEDULE.items()
    assert {entry.timezone.key for entry in loaded.entries} == {"UTC"}


def test_run_log_has_the_columns_of_the_contract():
    assert set(RUN_LOG) <= {column.name for column in suite.update_logs.columns}
    assert suite.STATUSES == ("running", "succeeded", "partial", "failed", "rejected", "dead", "skipped")
    assert set(typing.get_args(envelope.Trigger)) == {"schedule", "manual", "celery", "event"}


def test_settings_have_the_names_of_the_contract():
    assert set(SETTINGS) <= set(settings.names())


def test_commands_have_the_names_of_the_contract():
    assert set(COMMANDS) >= COMMANDS_OF_OPERATORS
