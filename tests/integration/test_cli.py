"""The command line: each command runs as a process, on real servers."""

import json
import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import sqlalchemy as sa

from console.cli import trigger
from consumers.app import GROUPS
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.clock import utc_now
from pocketwatch.settings import Rates, Settings
from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import fires
from publishers import schedule
from publishers.cron import next_fire
from schemas.envelope import Envelope
from tests.fixtures.banks import StoredRates
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Process, Program, reason_of
from tests.fixtures.tokens import Tokens


@pytest.fixture
def running(declared: None, pocketwatch: Program) -> Process:
    """The whole suite in one process."""
    assert pocketwatch("migrate").returncode == 0
    process = pocketwatch.start("run")
    process.until("publishers.started")
    return process


def publish_in_management_ui(servers: Servers, vhost: str, key: str, payload: str) -> bool:
    """Send what the form "Publish message" sends."""
    form = {"properties": {}, "routing_key": key, "payload": payload, "payload_encoding": "string"}
    with servers.management as api:
        answer: httpx.Response = api.post(f"/exchanges/{vhost}/ticks/publish", json=form)
    return bool(answer.json()["routed"])


def test_trigger_follows_the_run(pocketwatch: Program, running: Process, media: Path):
    (media / "new.jpg").write_text("x")

    done = pocketwatch("trigger", "cleanup.media", "--wait")

    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout
    assert "files_seen=1" in done.stdout
    (row,) = pocketwatch.json("runs")
    assert {"job", "entry", "message_id", "trigger", "due_at", "started_at", "finished_at", "status", "attempt"} <= set(
        row
    )
    assert {"dry_run", "progress", "statistics", "error", "worker"} <= set(row)
    assert (row["job"], row["trigger"], row["status"], row["dry_run"]) == (
        "cleanup.media",
        "manual",
        "succeeded",
        False,
    )


def test_trigger_takes_arguments_by_name_or_as_json(pocketwatch: Program, running: Process, tokens: Tokens):
    tokens.issue({"count": 3, "issued_days_ago": 70})

    by_name = pocketwatch("trigger", "cleanup.tokens", "--set", "retention_days=3", "--dry-run", "--wait")
    as_json = pocketwatch("trigger", "cleanup.tokens", "--json", '{"retention_days": 90, "dry_run": true}', "--wait")

    assert "outstanding_deleted=3" in by_name.stdout
    assert "outstanding_deleted=0" in as_json.stdout
    assert tokens.counts() == (3, 0)
    assert [row["dry_run"] for row in pocketwatch.json("runs")] == [True, True]


def test_failed_run_is_the_exit_code_and_shows_the_retry(pocketwatch: Program, running: Process, media: Path):
    media.rmdir()
    media.write_bytes(b"")

    done = pocketwatch("trigger", "cleanup.media", "--wait")

    assert done.returncode == 1
    assert f'root "{media}": a symbolic link or not a folder' in done.stdout
    assert "retried in 10s (attempt 2 of 6)" in done.stdout


def test_partial_run_has_its_own_exit_code(pocketwatch: Program, running: Process, tokens: Tokens):
    tokens.issue({"count": 3, "issued_days_ago": 70})

    assert pocketwatch("trigger", "cleanup.tokens", "--set", "max_deleted=1", "--wait").returncode == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cleanup.tokns"], 'there is no job "cleanup.tokns"; did you mean "cleanup.tokens"?'),
        (["cleanup.tokens", "--set", "days=3"], 'arguments of cleanup.tokens: unknown field "days"'),
        (["cleanup.tokens", "--set", "retention_days=-3"], "retention_days is -3: must be greater than or equal to 0"),
        (["cleanup.tokens", "--set", "retention_days=soon"], 'retention_days is "soon": must be a valid integer'),
        (
            ["cleanup.tokens", "--set", "retention_days"],
            'argument "retention_days": not a pair; write it as name=value',
        ),
        (["cleanup.tokens", "--json", "[1]"], "--json must be an object"),
        (["cleanup.tokens", "--json", "{"], "--json is not valid JSON"),
        (["cleanup.tokens", "--wait", "--timeout", "long"], '--timeout is "long": not a duration'),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(pocketwatch: Program, arguments: list[str], words: str):
    done = pocketwatch("trigger", *arguments)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("pocketwatch: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("payload", ["", "{}", '{"retention_days": 7}'])
def test_job_is_triggered_in_the_management_ui(
    pocketwatch: Program, running: Process, servers: Servers, vhost: str, payload: str
):
    assert publish_in_management_ui(servers, vhost, "cleanup.media", payload)

    running.until("message.handled")
    (row,) = pocketwatch.json("runs")
    assert (row["job"], row["trigger"], row["status"], row["entry"]) == ("cleanup.media", "manual", "succeeded", None)


def test_invalid_message_from_the_management_ui_becomes_a_dead_letter(
    pocketwatch: Program, running: Process, servers: Servers, vhost: str
):
    publish_in_management_ui(servers, vhost, "cleanup.media", '{"retention_day": 7}')
    running.until("message.dead_lettered")

    (row,) = pocketwatch.json("runs")
    assert row["status"] == "rejected"
    (dead,) = pocketwatch.json("dead", "list")
    assert dead["error"] == 'unknown field "retention_day"; did you mean "retention_days"?'
    assert dead["headers"]["x-error-type"] == "InvalidMessage"
    shown = pocketwatch("dead", "show", dead["message_id"])
    assert "retention_day" in shown.stdout
    assert pocketwatch("dead", "drop", dead["message_id"], "--yes").returncode == 0
    assert pocketwatch.json("dead", "list") == []


def test_requeued_dead_letter_succeeds(pocketwatch: Program, environment: dict[str, str], media: Path):
    pocketwatch("migrate")
    broken = Program(pocketwatch.environment | {"HOME": str(media)}, pocketwatch.folder)
    process = broken.start("consume", "cleanup")
    process.until("consumers.started")
    sent = pocketwatch("trigger", "cleanup.media", "--wait")
    process.kill()
    assert sent.returncode == 1
    (dead,) = pocketwatch.json("dead", "list", "--queue", "cleanup.media")

    pocketwatch.start("consume").until("consumers.started")
    assert pocketwatch("dead", "requeue", dead["message_id"]).returncode == 0

    for _ in range(100):
        rows = pocketwatch.json("runs")
        if rows[0]["status"] == "succeeded":
            break
    assert {row["message_id"] for row in rows} == {dead["message_id"]}
    assert [(row["status"], row["attempt"]) for row in rows] == [("succeeded", 2), ("dead", 1)]
    assert pocketwatch.json("dead", "list") == []


async def test_trigger_follows_continuations_and_returns_the_worst_outcome(
    settings: Settings, database: Database, capsys: pytest.CaptureFixture[str]
):
    def part(message_id: str, status: str, statistics: dict[str, str]) -> run_log.Row:
        envelope = Envelope(message_id=message_id, correlation_id="m", exchange="ticks", routing_key="cleanup.tokens")
        return run_log.Run("cleanup.tokens", envelope, dry_run=True).row(status, statistics=statistics)

    async with database.begin() as connection:
        rows = [part("m", "partial", {"continued_by": "m.1"}), part("m.1", "succeeded", {"scanned": "all"})]
        await run_log.finish(connection, rows)

    code = await trigger.follow(settings, "m", timedelta(seconds=5))

    shown = capsys.readouterr().out
    assert code == 3
    assert shown.count("dry_run=True") == 2
    assert "continued_by=m.1" in shown
    assert "scanned=all" in shown


def test_missing_broker_right_is_named(pocketwatch: Program, servers: Servers, vhost: str):
    with servers.management as api:
        api.put("/users/weak-user", json={"password": "secret", "tags": ""}).raise_for_status()
        nothing = {"configure": "", "write": ".*", "read": ".*"}
        api.put(f"/permissions/{vhost}/weak-user", json=nothing).raise_for_status()
    url = urlsplit(pocketwatch.environment["RABBITMQ_URL"])
    weak = url._replace(netloc=f"weak-user:secret@{url.hostname}:{url.port}").geturl()

    done = pocketwatch("migrate", RABBITMQ_URL=weak)

    with servers.management as api:
        api.delete("/users/weak-user")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert 'pocketwatch: the broker refuses exchange "ticks"' in done.stderr
    assert "for the permissions that its user needs, run: pocketwatch grants" in done.stderr
    assert 'missing: exchange "ticks"' in done.stderr


def test_missing_dead_letters_are_reported(pocketwatch: Program):
    pocketwatch("migrate")

    assert "does not exist; see: pocketwatch dead list" in pocketwatch("dead", "show", "nothing").stderr
    assert "no message ids given; pass message ids, --reason or --all" in pocketwatch("dead", "requeue").stderr
    assert 'queue "nothing" does not exist' in pocketwatch("dead", "list", "--queue", "nothing").stderr
    assert pocketwatch("dead", "requeue", "--all").returncode == 1


def test_schedule_list_needs_no_server(pocketwatch: Program):
    offline = Program(
        {"PATH": pocketwatch.environment["PATH"], "PYTHONPATH": pocketwatch.environment["PYTHONPATH"]},
        pocketwatch.folder,
    )

    entries = offline.json("schedule", "list")

    assert [entry["name"] for entry in entries] == [entry.name for entry in schedule.load().entries]
    disabled = [entry for entry in entries if entry["state"] == "disabled"]
    assert [(entry["name"], entry["next"]) for entry in disabled] == [("archive-ads-daily", None)]
    assert all(entry["next"] > "2026" and entry["state"] == "on" for entry in entries if entry not in disabled)


def test_disabled_entries_are_named_with_the_way_to_enable_them(pocketwatch: Program):
    pocketwatch("migrate")
    own = pocketwatch.folder / "own.toml"
    shutil.copy(schedule.DEFAULT, own)
    words = "disabled, never fires: archive-ads-daily; to enable it, write enabled = true in "
    default = f"{words}a copy of {schedule.DEFAULT}, and set POCKETWATCH_SCHEDULE to that file"

    for command in ("list", "check"):
        printed = [
            " ".join(pocketwatch("schedule", command, **changes).stdout.split())
            for changes in ({}, {"POCKETWATCH_SCHEDULE": str(own)})
        ]
        assert default in printed[0]
        assert printed[1].endswith(f"{words}{own}")
    result, detail = doctor(pocketwatch)["schedule"]
    assert result == "ok"
    assert detail.endswith("; disabled: archive-ads-daily; to enable it: pocketwatch schedule list")
    process = pocketwatch.start("publish")
    (started,) = process.until("publishers.started")
    assert started["disabled"] == ["archive-ads-daily"]
    own.write_text(own.read_text().replace("enabled = false", "enabled = true"))
    assert "disabled" not in pocketwatch("schedule", "list", POCKETWATCH_SCHEDULE=str(own)).stdout


def test_schedule_check_reaches_the_consumers(pocketwatch: Program):
    before = pocketwatch("schedule", "check", "--json")
    assert before.returncode == 1
    assert {row["problem"] for row in json.loads(before.stdout)} == {
        f'queue "{entry.job}" does not exist; run: pocketwatch migrate' for entry in schedule.load().enabled
    }

    pocketwatch("migrate")
    without_consumers = pocketwatch.json("schedule", "check")
    assert {row["result"] for row in without_consumers} == {"warning"}

    pocketwatch.start("consume").until("consumers.started")
    assert {row["result"] for row in pocketwatch.json("schedule", "check")} == {"ok"}


def test_wrong_schedule_stops_the_start(pocketwatch: Program):
    wrong = pocketwatch.folder / "wrong.toml"
    wrong.write_text('[[entry]]\nname = "nightly"\ncron = "0 2 * * *"\njob = "cleanup.tokns"\nwhy = "x"\n')
    pocketwatch("migrate")

    for arguments in (["publish"], ["run"], ["schedule", "list"]):
        done = pocketwatch(*arguments, POCKETWATCH_SCHEDULE=str(wrong))
        assert done.returncode == 1
        last = reason_of(done)
        assert last.startswith("schedule")
        assert 'entry "nightly"' in last
        assert 'did you mean "cleanup.tokens"?' in last


def test_entry_is_paused_and_resumed(pocketwatch: Program):
    pocketwatch("migrate")
    name = "clean-generated-media-weekly"

    assert (
        pocketwatch(
            "schedule", "pause", name, "--reason", "disk is moved", "--for", "2d", "--author", "olena"
        ).returncode
        == 0
    )
    states = {entry["name"]: entry["state"] for entry in pocketwatch.json("schedule", "list")}
    assert states[name].startswith("paused by olena until ")
    assert states[name].endswith(": disk is moved")
    assert "was already paused" in pocketwatch("schedule", "pause", name, "--reason", "again").stdout
    (again,) = [entry["state"] for entry in pocketwatch.json("schedule", "list") if entry["name"] == name]
    assert again.endswith(": again")
    assert pocketwatch("schedule", "resume", name).returncode == 0
    assert "is not paused" in pocketwatch("schedule", "resume", name).stderr
    assert 'entry "nothing": unknown; use one of' in pocketwatch("schedule", "pause", "nothing", "--reason", "x").stderr


def test_next_fire_of_a_paused_entry_is_the_first_after_its_pause(pocketwatch: Program):
    pocketwatch("migrate")
    pocketwatch("schedule", "pause", "vacuum-weekly", "--reason", "x", "--for", "30d", "--author", "olena")
    pocketwatch("schedule", "pause", "clean-sessions-daily", "--reason", "x", "--author", "olena")

    found = {entry["name"]: entry for entry in pocketwatch.json("schedule", "list")}

    paused = schedule.load().entry("vacuum-weekly")
    assert datetime.fromisoformat(found["vacuum-weekly"]["next"]) == next_fire(paused, utc_now() + timedelta(days=30))
    assert found["clean-sessions-daily"]["next"] is None
    assert found["clean-sessions-daily"]["state"] == "paused by olena until it is resumed: x"


async def test_schedule_list_shows_what_became_of_the_last_fire(pocketwatch: Program, database: Database):
    fire: dict[str, Any] = {
        "entry": "vacuum-weekly",
        "due_at": utc_now() - timedelta(hours=1),
        "timetable": "0 5 * * SUN UTC",
    }
    missed = {"state": "missed", "reason": "paused", "outcome": "missed", "settled_at": utc_now()}
    async with database.begin() as connection:
        await connection.execute(sa.insert(fires).values(**fire, **missed))

    found = {entry["name"]: entry for entry in pocketwatch.json("schedule", "list")}

    assert [found["vacuum-weekly"][name] for name in ("last", "outcome", "reason")] == [
        fire["due_at"].isoformat(),
        "missed",
        "paused",
    ]
    assert found["clean-sessions-daily"]["outcome"] is None
    lines = pocketwatch("schedule", "list", COLUMNS="80").stdout.splitlines()
    assert lines[1].split()[-2:] == ["outcome", "state"]
    assert [line.split()[-2:] for line in lines if line.startswith("vacuum-weekly")] == [["missed", "on"]]


def test_schedule_is_listed_while_the_database_does_not_answer(pocketwatch: Program):
    done = pocketwatch("schedule", "list", "--json", DATABASE_URL="postgresql://x:y@127.0.0.1:9/x")

    assert done.returncode == 0
    assert {entry["state"] for entry in json.loads(done.stdout)} == {"not known", "disabled"}
    assert done.stderr.startswith("pocketwatch: pauses and last fires are not known: PostgreSQL at ")


def test_doctor_reports_missing_queues_and_then_none(pocketwatch: Program, rates: StoredRates):
    before = pocketwatch("doctor", "--json")
    assert before.returncode == 1
    found = {finding["subject"]: finding for finding in json.loads(before.stdout)}
    queues = [subject for subject in found if found[subject]["detail"].endswith("; run: pocketwatch migrate")]
    assert queues == ["queues"]
    assert found["queues"]["detail"] == f"none of the {len(TOPOLOGY.queues)} queues exists; run: pocketwatch migrate"
    assert found["platform tables"]["result"] == "ok"

    pocketwatch("migrate")
    for currency in Rates().currencies:
        rates.add(currency)
    process = pocketwatch.start("run")
    for event in ("consumers.started", "schedule.entry_registered"):
        process.until(event)
    after = pocketwatch("doctor", "--json")
    assert after.returncode == 0, after.stdout
    assert [finding for finding in json.loads(after.stdout) if finding["result"] != "ok"] == []


def doctor(pocketwatch: Program) -> dict[str, tuple[str, str]]:
    """Return the result and the detail of each finding, by subject."""
    findings = json.loads(pocketwatch("doctor", "--json").stdout)
    return {each["subject"]: (each["result"], each["detail"]) for each in findings}


def test_doctor_reports_stuck_outbox_and_missing_rights(pocketwatch: Program, rates: StoredRates):
    pocketwatch("migrate")
    with psycopg.connect(rates.database_url) as connection:
        connection.execute(
            "INSERT INTO outbox (message_id, exchange, routing_key, payload, attempts, last_error, available_at) "
            "VALUES ('stuck', 'ticks', 'no.such', '{}', 7, 'no queue is bound', now() + interval '50 s')"
        )
        connection.execute("CREATE ROLE no_rights LOGIN PASSWORD 'x'")

    stuck = pocketwatch("doctor", "--json")
    weak = pocketwatch(
        "doctor", "--json", DATABASE_URL=f"postgresql://no_rights:x@{rates.database_url.rpartition('@')[2]}"
    )

    with psycopg.connect(rates.database_url) as connection:
        connection.execute("DROP ROLE no_rights")

    found = {finding["subject"]: finding for finding in json.loads(stuck.stdout)}
    assert found["stale outbox: outbox"]["result"] == "problem"
    assert found["stale outbox: outbox"]["detail"].startswith("1 message cannot be published; one error is: no ")
    found = {finding["subject"]: finding for finding in json.loads(weak.stdout)}
    assert "lacks a right: permission denied" in found["database"]["detail"]
    assert "RabbitMQ" in found


def test_doctor_reports_unknown_setting_missing_file_and_unreachable_server(pocketwatch: Program):
    done = pocketwatch(
        "doctor",
        "--json",
        POCKETWATCH_MEDIA_ROT="/x",
        POCKETWATCH_MODERATION_RULES="/nowhere/rules.toml",
        RABBITMQ_URL="amqp://127.0.0.1:1/x",
        POCKETWATCH_PATIENCE="1s",
    )

    details = " ".join(finding["detail"] for finding in json.loads(done.stdout))
    assert "/nowhere/rules.toml" in details
    assert "POCKETWATCH_MEDIA_ROT is unknown; did you mean POCKETWATCH_MEDIA_ROOT?" in details
    assert "does not answer" in details
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RABBITMQ_URL": "amqp://127.0.0.1:1/x"}, "RabbitMQ at amqp://127.0.0.1:1/x does not answer"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "PostgreSQL at postgresql://127.0.0.1:1/x does not answer"),
        (
            {"DATABASE_URL": "postgresql://127.0.0.1:1/x?sslmode=perhaps", "POCKETWATCH_PATIENCE": "10m"},
            'DATABASE_URL is "postgresql://127.0.0.1:1/x?sslmode=perhaps": parameter sslmode must be disable, allow, ',
        ),
        ({"RABBITMQ_URL": ""}, "RABBITMQ_URL is not set"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        ({"POCKETWATCH_GRACE": "long"}, 'POCKETWATCH_GRACE is "long"'),
        ({"POCKETWATCH_MEDIA_ROOT": "/"}, 'POCKETWATCH_MEDIA_ROOT is "/": must not be the root of the file system'),
        ({"POCKETWATCH_LOG_FILE": "/proc/no/log"}, 'POCKETWATCH_LOG_FILE is "/proc/no/log", which cannot be written'),
    ],
)
@pytest.mark.parametrize("command", ["consume", "publish", "run"])
def test_failed_start_is_explained_in_one_line(pocketwatch: Program, command: str, changes: dict[str, str], words: str):
    pocketwatch("migrate")

    done = pocketwatch(command, **{"POCKETWATCH_PATIENCE": "1s", **changes})

    assert done.returncode == 1
    assert words in reason_of(done)
    assert "Traceback" not in done.stderr


def test_unknown_group_is_refused(pocketwatch: Program):
    done = pocketwatch("consume", "cleanups")

    assert done.returncode == 1
    assert reason_of(done) == f'group "cleanups" does not exist; use one of {", ".join(GROUPS)}'


def test_missing_tables_are_reported(pocketwatch: Program, servers: Servers):
    done = pocketwatch("runs", DATABASE_URL=servers.postgresql("postgres"))

    assert done.stderr == (
        'pocketwatch: relation "update_logs" does not exist; the suite\'s tables are created by: pocketwatch migrate; '
        "the platform's by its own migrations\n"
    )


def test_running_process_touches_its_heartbeat(pocketwatch: Program):
    pocketwatch("migrate")
    heartbeat = pocketwatch.folder / "alive/heartbeat"
    heartbeat.parent.mkdir()

    process = pocketwatch.start("run", POCKETWATCH_HEARTBEAT_FILE=str(heartbeat))
    process.until("publishers.started")

    process.until("watchdog.active")  # the last of its services; the heartbeat begins when all have started
    for _ in range(100):
        if heartbeat.exists():
            break
        time.sleep(0.1)
    assert heartbeat.exists()
    assert process.stop() == 0


def test_unwritable_heartbeat_ends_the_process(pocketwatch: Program):
    pocketwatch("migrate")

    done = pocketwatch("publish", POCKETWATCH_HEARTBEAT_FILE="/proc/no/heartbeat")

    assert done.returncode == 1
    refused = 'POCKETWATCH_HEARTBEAT_FILE is "/proc/no/heartbeat", which cannot be written'
    assert reason_of(done).startswith(refused)


def test_log_file_is_written(pocketwatch: Program):
    pocketwatch("migrate")
    file = pocketwatch.folder / "suite.log"

    process = pocketwatch.start("consume", POCKETWATCH_LOG_FILE=str(file), POCKETWATCH_LOG_FORMAT="console")
    for _ in range(200):
        if file.exists() and "consumers.started" in file.read_text():
            break
        __import__("time").sleep(0.05)
    process.stop()

    events = [json.loads(line)["event"] for line in file.read_text().splitlines()]
    events = [event for event in events if not event.startswith("watchdog.")]  # it may have begun by then
    assert events == ["queue.consumed", "consumers.started", "service.stopping", "service.stopped"]
    assert "consumers.started      queues=" in process.log.read_text()
