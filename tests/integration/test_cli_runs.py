"""`runs`: filters, one run, stopping one; and what `trigger --wait` says about a run that was postponed."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from console.cli import trigger
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import operator_actions, run_history, run_search
from pocketwatch.storage.database import Database
from pocketwatch.storage.run_search import RunFilter
from pocketwatch.storage.tables.suite import update_logs
from tests.fixtures.suite import Program

NOW = datetime.now(UTC)
TICK_ID = "clean-sessions-daily@20261128T023000Z"


async def add(database: Database, *rows: dict[str, Any]) -> None:
    defaults = {
        "job": "cleanup.tokens",
        "trigger": "manual",
        "worker": "host:1",
        "status": "succeeded",
        "started_at": NOW,
    }
    async with database.begin() as connection:
        for row in rows:
            full = defaults | row
            ended = {} if full["status"] == "running" else {"finished_at": full["started_at"] + timedelta(seconds=3)}
            await connection.execute(sa.insert(update_logs).values(**full, **ended))


async def ids(database: Database, **criteria: Any) -> list[str]:
    async with database.begin() as connection:
        return [row["message_id"] for row in await run_search.newest(connection, RunFilter(**criteria))]


async def test_runs_are_narrowed_down(database: Database):
    old, an_hour_ago = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
    await add(
        database,
        {"message_id": TICK_ID, "job": "cleanup.sessions", "entry": "clean-sessions-daily", "started_at": old},
        {"message_id": "m_2", "started_at": old},
        {"message_id": "m-3", "trigger": "celery", "error": "100% of it", "status": "failed"},
        {"message_id": "m-4", "job": "rates.update", "error": "NBU: does not answer", "status": "failed"},
    )

    assert await ids(database) == ["m-4", "m-3", "m_2", TICK_ID]
    assert await ids(database, limit=1) == ["m-4"]
    assert await ids(database, entry="clean-sessions-daily") == [TICK_ID]
    assert await ids(database, trigger="celery") == ["m-3"]
    assert await ids(database, message_id="m-") == ["m-4", "m-3"]
    assert await ids(database, message_id="m_") == ["m_2"]
    assert await ids(database, error="does NOT answer") == ["m-4"]
    assert await ids(database, error="100%") == ["m-3"]
    assert await ids(database, since=an_hour_ago) == ["m-4", "m-3"]
    assert await ids(database, until=an_hour_ago) == ["m_2", TICK_ID]
    assert await ids(database, status="failed", job="rates.update") == ["m-4"]


async def test_runs_are_found_however_many_are_looked_at(database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_search, "MAX_SCANNED", 2)
    await add(database, *({"message_id": f"m-{number}", "error": f"no {number % 4}"} for number in range(9)))

    assert await ids(database, error="NO 3") == ["m-7", "m-3"]
    assert await ids(database, error="no 3", limit=1) == ["m-7"]
    assert await ids(database, error="no 0", before_id=9) == ["m-4", "m-0"]
    assert await ids(database, limit=7) == [f"m-{number}" for number in range(8, 1, -1)]


async def test_beginning_of_an_id_is_enough_when_it_is_unique(database: Database):
    await add(database, *({"message_id": each} for each in ("abc", "abcd-1", "abcd-2", "a%d")))

    async with database.begin() as connection:
        assert await run_history.message_id_of(connection, "abc") == "abc"
        assert await run_history.message_id_of(connection, "a%") == "a%d"
        with pytest.raises(PocketwatchError, match=r'"abcd": ambiguous; write more of the id: abcd-1, abcd-2$'):
            await run_history.message_id_of(connection, "abcd")
        with pytest.raises(PocketwatchError, match=r'"x": not found; see: pocketwatch runs$'):
            await run_history.message_id_of(connection, "x")


async def test_postponed_and_nothing_to_do_are_distinguished(database: Database, pocketwatch: Program):
    await add(
        database,
        {"message_id": "later", "status": "skipped", "next_attempt_at": NOW + timedelta(minutes=1)},
        {"message_id": "nothing", "status": "skipped", "error": "REDIS_URL: not set"},
    )

    lines = pocketwatch("runs").stdout.splitlines()

    assert [line.split("  ")[2] for line in lines[2:]] == ["nothing to do", "postponed"]
    assert [row["status"] for row in pocketwatch.json("runs")] == ["skipped", "skipped"]


async def test_list_is_the_default_command(database: Database, pocketwatch: Program):
    await add(database, {"message_id": "one", "status": "failed"}, {"message_id": "two"})

    assert pocketwatch.json("runs", "--status", "failed") == pocketwatch.json("runs", "list", "--status", "failed")


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--job", "cleanup.tokns", 'job "cleanup.tokns" does not exist; did you mean "cleanup.tokens"?'),
        ("--entry", "clean-sesions-daily", 'did you mean "clean-sessions-daily"?'),
        ("--status", "suceeded", 'status "suceeded" does not exist; did you mean "succeeded"?'),
        ("--since", "yesterday", '--since is "yesterday": not a time; use one such as 2026-11-28'),
    ],
)
def test_name_that_does_not_exist_is_refused(pocketwatch: Program, option: str, name: str, words: str):
    done = pocketwatch("runs", option, name)

    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


def test_empty_list_says_what_to_do(pocketwatch: Program):
    assert pocketwatch("runs").stdout == "no runs yet; start one: pocketwatch trigger --list\n"
    assert pocketwatch("runs", "--job", "cleanup.tokens").stdout.startswith("no run matches")
    assert pocketwatch.json("runs") == []


async def test_run_is_shown_with_its_arguments_attempts_and_what_it_caused(database: Database, pocketwatch: Program):
    await add(
        database,
        {"message_id": "abc-1", "correlation_id": "abc-1", "status": "failed", "error": "no disk", "traceback": "a\nb"},
        {"message_id": "abc-1", "correlation_id": "abc-1", "attempt": 2, "payload": {"retention_days": 7}},
        {"message_id": "child", "correlation_id": "abc-1", "job": "mail"},
    )

    shown = pocketwatch("runs", "show", "abc").stdout
    data = pocketwatch.json("runs", "show", "abc")

    assert "run of abc-1" in shown
    assert "arguments" in shown
    assert "retention_days=7" in shown
    assert "no disk" in shown
    assert [line for line in shown.splitlines() if line.endswith("child")] != []
    assert [row["attempt"] for row in data["attempts"]] == [1, 2]
    assert [row["message_id"] for row in data["related"]] == ["child"]


async def test_running_job_is_asked_to_stop(database: Database, pocketwatch: Program):
    await add(database, {"message_id": "abc-1", "status": "running"}, {"message_id": "done-1"})

    done = pocketwatch("runs", "stop", "abc", "--reason", "the disk is busy", "--author", "olena")
    shown = pocketwatch("runs", "show", "abc").stdout
    over = pocketwatch("runs", "stop", "done", "--reason", "x")

    assert done.returncode == 0, done.stderr
    assert "requested by olena: the disk is busy" in shown
    assert (over.returncode, "run of done-1: not running" in over.stderr) == (1, True)
    async with database.begin() as connection:
        (action,) = await operator_actions.newest(connection, limit=5)
    assert [action[name] for name in ("actor", "action", "target", "reason")] == [
        *("olena", "runs.stop", "abc-1", "the disk is busy")
    ]


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        (
            {"status": "skipped", "error": "mail server: refused", "next_attempt_at": NOW + timedelta(minutes=1)},
            4,
            f"postponed until {NOW + timedelta(minutes=1):%Y-%m-%d %H:%M:%S} UTC, when it is retried",
        ),
        ({"status": "skipped", "error": "REDIS_URL: not set"}, 0, "nothing to do"),
        ({"status": "running"}, 4, "it has not ended within 1 s and is still running; see: pocketwatch runs show m"),
        ({"status": "partial"}, 3, "partial"),
        ({"status": "dead", "error": "gone"}, 1, "it is a dead letter; see: pocketwatch dead show m"),
    ],
    ids=["postponed", "nothing to do", "running", "partial", "dead"],
)
async def test_exit_code_of_a_followed_run_is_its_outcome(
    settings: Settings,
    database: Database,
    capsys: pytest.CaptureFixture[str],
    row: dict[str, Any],
    code: int,
    words: str,
):
    await add(database, {"message_id": "m", **row})

    assert await trigger.follow(settings, "m", timedelta(seconds=1)) == code
    assert words in capsys.readouterr().out


async def test_message_without_a_consumer_is_not_called_success(settings: Settings, capsys: pytest.CaptureFixture[str]):
    assert await trigger.follow(settings, "m", timedelta(seconds=0.3)) == 1
    assert "no consumer has started m within 0.30 s; it waits in its queue" in capsys.readouterr().out


def test_trigger_without_a_consumer_says_so_at_once(pocketwatch: Program):
    pocketwatch("migrate")

    done = pocketwatch("trigger", "cleanup.tokens", "--wait", "--timeout", "1s")

    _, warning, end = done.stdout.splitlines()
    assert warning == (
        "queue cleanup.tokens has no consumer, so the message waits in it; start one: pocketwatch consume cleanup"
    )
    assert "no consumer has started" in end
    assert done.returncode == 1


async def test_who_triggered_a_job_is_recorded(database: Database, pocketwatch: Program):
    pocketwatch("migrate")

    done = pocketwatch("trigger", "cleanup.tokens", "--set", "retention_days=7", "--author", "olena")

    async with database.begin() as connection:
        action = (await operator_actions.newest(connection, limit=1))[0]
    assert [action[name] for name in ("actor", "source", "action", "target")] == [
        *("olena", "cli", "trigger.publish", "cleanup.tokens")
    ]
    assert action["after"]["message_id"] in done.stdout


def test_trigger_lists_jobs_and_their_arguments(pocketwatch: Program):
    jobs, named = pocketwatch("trigger"), pocketwatch("trigger", "cleanup.tokens", "--list")
    entry = pocketwatch("trigger", "clean-sessions-daily")

    assert "cleanup.tokens" in jobs.stdout
    assert "rates.updated" not in jobs.stdout
    assert [line.split("  ")[0] for line in named.stdout.splitlines()[2:]] == [
        *("retention_days", "dry_run", "max_deleted", "after_id")
    ]
    assert "0 to 3650" in named.stdout
    assert "days to keep expired data" in named.stdout
    assert entry.stderr.endswith("run: pocketwatch schedule run clean-sessions-daily\n")


def test_trigger_reads_arguments_from_a_file(pocketwatch: Program):
    pocketwatch("migrate")
    (pocketwatch.folder / "arguments.json").write_text('{"retention_days": 7}')
    (pocketwatch.folder / "wrong.json").write_text('{"retention_day": 7}')

    assert pocketwatch("trigger", "cleanup.tokens", "--json", "@arguments.json").returncode == 0
    assert 'unknown field "retention_day"' in pocketwatch("trigger", "cleanup.tokens", "--json", "@wrong.json").stderr
    assert "cannot be read: No such file" in pocketwatch("trigger", "cleanup.tokens", "--json", "@no.json").stderr
