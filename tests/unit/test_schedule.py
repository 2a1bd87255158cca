"""The schedule file: which entries are refused, and with which error."""

import re
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest

from pocketwatch.errors import ScheduleError
from publishers.schedule import DEFAULT, load
from schemas.catalogue import schema_of

TOKEN_TABLES = {"token_blacklist_outstandingtoken", "token_blacklist_blacklistedtoken"}
PLATFORM_TABLES = {
    *TOKEN_TABLES,
    *re.findall(
        r"^CREATE TABLE IF NOT EXISTS (\w+)", (DEFAULT.parents[1] / "demo/platform.sql").read_text(), re.MULTILINE
    ),
}
# The entries of the platform's former schedule, in Celery's beat, whose tasks existed.
FORMER = {
    "clean-blacklisted-tokens-daily",
    "clean-generated-media-weekly",
    "update-currency-rates-daily",
    "update-currency-rates-backup",
    "cleanup-old-currency-rates",
    "generate-quick-stats-every-15min",
    "generate-platform-analytics-hourly",
    "generate-daily-report",
    "cleanup-analytics-cache-daily",
}
# What a group may write to a table of the platform, though a job of it that is no former one changes
# only rows that the suite has written: those of held emails, and the logs of its own runs.
ONLY_OWN_ROWS = {
    ("mail.digest", "moderation_notification_logs"),
    ("maintenance.purge_logs", "currency_update_logs"),
    ("maintenance.purge_logs", "moderation_notification_logs"),
}
# Rights of another job in the same group: of clean_tokens, of archive_ads and of purge_logs.
NOT_THIS_JOB = {
    *((f"cleanup.{job}", table) for job in ("sessions", "static_files", "log_files") for table in TOKEN_TABLES),
    ("maintenance.purge_logs", "car_ads"),
    *(("maintenance.vacuum", table) for table in ("car_ads", "currency_update_logs", "moderation_notification_logs")),
}

GOOD = """
[[entry]]
name = "tokens-nightly"
cron = "0 2 * * *"
job = "cleanup.tokens"
why = "a test"
"""


def refused(tmp_path: Path, text: str) -> str:
    file = tmp_path / "schedule.toml"
    file.write_text(text)
    with pytest.raises(ScheduleError) as caught:
        load(file)
    return str(caught.value).removeprefix(f'schedule "{file}": ')


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_default_schedule_is_valid_and_gives_a_reason_for_each_entry():
    schedule = load()

    assert all(
        entry.why and entry.catch_up == "latest" and entry.grace == timedelta(hours=6) for entry in schedule.entries
    )


def test_no_entry_that_the_former_schedule_lacked_changes_rows_of_the_platform():
    entries = [entry for entry in load().enabled if entry.name not in FORMER]
    changed = {
        (entry.job, table)
        for entry in entries
        for table, privileges in import_module(f"consumers.{entry.job.split('.')[0]}.privileges").PRIVILEGES.items()
        if table in PLATFORM_TABLES and any(not privilege.startswith("SELECT") for privilege in privileges)
    }

    assert len(PLATFORM_TABLES) > 15
    assert changed <= ONLY_OWN_ROWS | NOT_THIS_JOB
    assert "archive-ads-daily" in {entry.name for entry in load().disabled}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            changed('"cleanup.tokens"', '"cleanup.tokns"'),
            (
                'entry "tokens-nightly": job is "cleanup.tokns": there is no job "cleanup.tokns"; '
                'did you mean "cleanup.tokens"?'
            ),
        ),
        (
            changed('"cleanup.tokens"', '"run.failed"'),
            'entry "tokens-nightly": job is "run.failed": not a job; only jobs can be scheduled',
        ),
        (
            GOOD + "payload = { retention_day = 3 }",
            (
                'entry "tokens-nightly": payload for cleanup.tokens: unknown field "retention_day"; '
                'did you mean "retention_days"?'
            ),
        ),
        (
            GOOD + "payload = { retention_days = -1 }",
            (
                'entry "tokens-nightly": payload for cleanup.tokens: retention_days is -1: '
                "must be greater than or equal to 0"
            ),
        ),
        (
            changed('"0 2 * * *"', '"0 25 * * *"'),
            'entry "tokens-nightly": cron is "0 25 * * *": not a cron expression: bad hour',
        ),
        (
            changed('"0 2 * * *"', '"0 0 31 2 *"'),
            'entry "tokens-nightly": cron is "0 0 31 2 *": not a cron expression: bad day-of-month',
        ),
        (
            GOOD + 'grace = "8d"',
            'entry "tokens-nightly": grace is "8d": at most 7d; older missed fires are ignored',
        ),
        (
            GOOD + 'timezone = "Europe/Kiew"',
            (
                'entry "tokens-nightly": timezone is "Europe/Kiew": unknown time zone; '
                "use one such as Europe/Kyiv or UTC"
            ),
        ),
        (
            GOOD + 'grace = "soon"',
            (
                'entry "tokens-nightly": grace is "soon": not a duration; use a whole number and a unit, '
                "such as 90s, 15m, 6h or 2d"
            ),
        ),
        (GOOD + "grace = 6", 'entry "tokens-nightly": grace is 6: not a duration; use a whole number'),
        (
            GOOD + 'catch_up = "maybe"',
            "entry \"tokens-nightly\": catch_up is \"maybe\": must be 'latest', 'all' or 'skip'",
        ),
        (GOOD + 'tz = "UTC"', 'entry "tokens-nightly": unknown field "tz"'),
        (changed('why = "a test"\n', ""), 'entry "tokens-nightly": field "why" is missing'),
        (GOOD + GOOD, 'entry "tokens-nightly": defined 2 times'),
        ('zone = "UTC"\n' + GOOD, 'unknown key "zone"; use timezone and [[entry]]'),
        (
            GOOD + GOOD + 'tz = "UTC"',
            (
                'entry "tokens-nightly": unknown field "tz"; known: name, cron, job, payload, why, timezone, gap, '
                'fold, catch_up, grace, enabled; entry "tokens-nightly": defined 2 times'
            ),
        ),
        ('timezone = "UTC"', "no [[entry]]"),
        (
            changed("[[entry]]", "[entry]"),
            '"entry" is not a list of tables; begin each entry with a line [[entry]]',
        ),
        ('entry = [{ name = "a" }, "b"]', '"entry" is not a list of tables; begin each entry with a line [[entry]]'),
    ],
)
def test_invalid_entry_is_refused_with_its_name_and_the_remedy(tmp_path: Path, text: str, expected: str):
    assert refused(tmp_path, text).startswith(expected)


def test_all_invalid_entries_are_named(tmp_path: Path):
    text = changed('"cleanup.tokens"', '"no.such"') + changed("tokens-nightly", "other").replace("0 2", "99 2")

    expected = refused(tmp_path, text)

    assert 'entry "tokens-nightly"' in expected
    assert 'entry "other"' in expected


def test_unreadable_file_is_refused(tmp_path: Path):
    broken = tmp_path / "broken.toml"
    broken.write_text("entry = [")

    for path in (tmp_path / "missing.toml", broken):
        with pytest.raises(ScheduleError, match="cannot be read"):
            load(path)


def test_entry_time_zone_defaults_to_that_of_the_file(tmp_path: Path):
    file = tmp_path / "schedule.toml"
    other = GOOD.replace("tokens-nightly", "other") + 'timezone = "Asia/Tokyo"'
    file.write_text('timezone = "Europe/Kyiv"\n' + GOOD + other)

    assert [entry.timezone.key for entry in load(file).entries] == ["Europe/Kyiv", "Asia/Tokyo"]


@pytest.mark.parametrize(
    ("job", "payload"),
    [
        ("analytics.platform", 'locales = ["uk"]'),
        ("rates.update", 'currencies = ["USD"]'),
        ("maintenance.vacuum", 'tables = ["inbox"]'),
        ("analytics.daily_report", 'day = "2026-11-20"'),
        ("analytics.daily_report", "day = 2026-11-20"),
    ],
)
def test_payload_accepts_every_field_of_the_message(tmp_path: Path, job: str, payload: str):
    file = tmp_path / "schedule.toml"
    file.write_text(changed("cleanup.tokens", job) + f"payload = {{ {payload} }}")

    (entry,) = load(file).entries

    assert entry.message == schema_of(job).model_validate_json(entry.message.model_dump_json())


def test_disabled_entry_does_not_fire_but_is_checked(tmp_path: Path):
    file = tmp_path / "schedule.toml"
    file.write_text(GOOD + "enabled = false")

    assert load(file).enabled == ()
    assert "no job" in refused(tmp_path, changed("cleanup.tokens", "nothing") + "enabled = false")


def test_default_file_is_part_of_the_package():
    assert DEFAULT.is_file()
