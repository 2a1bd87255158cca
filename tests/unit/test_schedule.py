"""The schedule file: what is refused, and with which words."""

from datetime import timedelta
from pathlib import Path

import pytest

from pocketwatch.errors import ScheduleError
from publishers.schedule import DEFAULT, load
from schemas.catalogue import schema_of

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
    return str(caught.value).removeprefix(f'the schedule "{file}" is wrong: ')


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


def test_the_schedule_that_comes_with_the_suite_is_valid_and_explains_each_entry():
    schedule = load()

    assert schedule.enabled == schedule.entries
    assert all(
        entry.why and entry.catch_up == "latest" and entry.grace == timedelta(hours=6) for entry in schedule.entries
    )


@pytest.mark.parametrize(
    ("text", "words"),
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
            'entry "tokens-nightly": job is "run.failed": "run.failed" is no job that a schedule can ask for',
        ),
        (
            GOOD + "payload = { retention_day = 3 }",
            (
                'entry "tokens-nightly": its payload is refused by cleanup.tokens: unknown field "retention_day"; '
                'did you mean "retention_days"?'
            ),
        ),
        (
            GOOD + "payload = { retention_days = -1 }",
            (
                'entry "tokens-nightly": its payload is refused by cleanup.tokens: retention_days is -1: '
                "must be greater than or equal to 0"
            ),
        ),
        (
            changed('"0 2 * * *"', '"0 25 * * *"'),
            'entry "tokens-nightly": cron is "0 25 * * *": "0 25 * * *" is no cron expression: bad hour',
        ),
        (
            changed('"0 2 * * *"', '"0 0 31 2 *"'),
            'entry "tokens-nightly": cron is "0 0 31 2 *": "0 0 31 2 *" is no cron expression: bad day-of-month',
        ),
        (
            GOOD + 'grace = "8d"',
            'entry "tokens-nightly": grace is "8d": at most 7d: nobody looks further back for missed moments',
        ),
        (
            GOOD + 'timezone = "Europe/Kiew"',
            (
                'entry "tokens-nightly": timezone is "Europe/Kiew": there is no time zone "Europe/Kiew"; '
                "write one such as Europe/Kyiv or UTC"
            ),
        ),
        (
            GOOD + 'grace = "soon"',
            (
                'entry "tokens-nightly": grace is "soon": "soon" is not a duration; use a whole number and a unit, '
                "such as 90s, 15m, 6h or 2d"
            ),
        ),
        (GOOD + "grace = 6", 'entry "tokens-nightly": grace is 6: "6" is not a duration; use a whole number'),
        (
            GOOD + 'catch_up = "maybe"',
            "entry \"tokens-nightly\": catch_up is \"maybe\": must be 'latest', 'all' or 'skip'",
        ),
        (GOOD + 'tz = "UTC"', 'entry "tokens-nightly": unknown field "tz"'),
        (changed('why = "a test"\n', ""), 'entry "tokens-nightly": field "why" is missing'),
        (GOOD + GOOD, 'entry "tokens-nightly" is there 2 times'),
        ('zone = "UTC"\n' + GOOD, '"zone" is no key of a schedule; known are timezone and [[entry]]'),
        (
            GOOD + GOOD + 'tz = "UTC"',
            (
                'entry "tokens-nightly": unknown field "tz"; known are name, cron, job, payload, why, timezone, gap, '
                'fold, catch_up, grace, enabled; entry "tokens-nightly" is there 2 times'
            ),
        ),
        ('timezone = "UTC"', "there is no [[entry]]"),
        (
            changed("[[entry]]", "[entry]"),
            '"entry" is no list of tables; begin each entry with a line [[entry]]',
        ),
        ('entry = [{ name = "a" }, "b"]', '"entry" is no list of tables; begin each entry with a line [[entry]]'),
    ],
)
def test_an_entry_that_could_not_fire_is_refused_with_its_name_and_what_would_be_right(
    tmp_path: Path, text: str, words: str
):
    assert refused(tmp_path, text).startswith(words)


def test_every_wrong_entry_is_named_at_once(tmp_path: Path):
    text = changed('"cleanup.tokens"', '"no.such"') + changed("tokens-nightly", "other").replace("0 2", "99 2")

    words = refused(tmp_path, text)

    assert 'entry "tokens-nightly"' in words
    assert 'entry "other"' in words


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path):
    broken = tmp_path / "broken.toml"
    broken.write_text("entry = [")

    for path in (tmp_path / "missing.toml", broken):
        with pytest.raises(ScheduleError, match="cannot be read"):
            load(path)


def test_an_entry_takes_the_zone_of_the_file_unless_it_has_its_own(tmp_path: Path):
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
def test_a_payload_may_say_whatever_a_message_may(tmp_path: Path, job: str, payload: str):
    file = tmp_path / "schedule.toml"
    file.write_text(changed("cleanup.tokens", job) + f"payload = {{ {payload} }}")

    (entry,) = load(file).entries

    assert entry.message == schema_of(job).model_validate_json(entry.message.model_dump_json())


def test_a_disabled_entry_does_not_fire_but_is_still_checked(tmp_path: Path):
    file = tmp_path / "schedule.toml"
    file.write_text(GOOD + "enabled = false")

    assert load(file).enabled == ()
    assert "no job" in refused(tmp_path, changed("cleanup.tokens", "nothing") + "enabled = false")


def test_the_default_file_is_part_of_the_package():
    assert DEFAULT.is_file()
