"""The command line as people use it: each command a program of its own, on real servers."""

import json
import re
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from console.cli import trigger
from consumers.app import GROUPS
from pocketwatch.settings import Rates, Settings
from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from publishers import schedule
from schemas.envelope import Envelope
from tests.fixtures.banks import StoredRates
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Process, Program
from tests.fixtures.tokens import Tokens

COMMANDS = [
    "stack up",
    "stack down",
    "stack status",
    "stack env",
    "migrate",
    "publish",
    "consume",
    "run",
    "trigger",
    "schedule list",
    "schedule check",
    "schedule pause",
    "schedule resume",
    "runs",
    "dead list",
    "dead show",
    "dead requeue",
    "dead drop",
    "notices",
    "archive list",
    "archive restore",
    "mail preview",
    "mail suppressed",
    "mail forget",
    "mail caught",
    "moderation replay",
    "moderation check",
    "moderation decisions",
    "analytics show",
    "analytics verify",
    "analytics rebuild",
    "doctor",
]


@pytest.fixture
def running(pocketwatch: Program) -> Process:
    """The whole suite in one process."""
    assert pocketwatch("migrate").returncode == 0
    process = pocketwatch.start("run")
    process.until("publishers.started")
    return process


def through_the_management_ui(servers: Servers, vhost: str, key: str, payload: str) -> bool:
    """What the form "Publish message" sends."""
    form = {"properties": {}, "routing_key": key, "payload": payload, "payload_encoding": "string"}
    with servers.management as api:
        answer: httpx.Response = api.post(f"/exchanges/{vhost}/ticks/publish", json=form)
    return bool(answer.json()["routed"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(pocketwatch: Program, command: str):
    done = pocketwatch(*command.split(), "--help")

    assert done.returncode == 0
    assert re.search(rf"Example: .*pocketwatch {command}", " ".join(done.stdout.split())), done.stdout


def test_a_triggered_job_is_followed_to_its_end(pocketwatch: Program, running: Process, media: Path):
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


def test_arguments_come_by_name_or_as_json_and_a_dry_run_changes_nothing(
    pocketwatch: Program, running: Process, tokens: Tokens
):
    tokens.issue({"count": 3, "issued_days_ago": 70})

    by_name = pocketwatch("trigger", "cleanup.tokens", "--set", "retention_days=3", "--dry-run", "--wait")
    as_json = pocketwatch("trigger", "cleanup.tokens", "--json", '{"retention_days": 90, "dry_run": true}', "--wait")

    assert "outstanding_deleted=3" in by_name.stdout
    assert "outstanding_deleted=0" in as_json.stdout
    assert tokens.counts() == (3, 0)
    assert [row["dry_run"] for row in pocketwatch.json("runs")] == [True, True]


def test_a_failed_job_is_the_exit_code_and_says_when_it_is_tried_again(
    pocketwatch: Program, running: Process, media: Path
):
    media.rmdir()

    done = pocketwatch("trigger", "cleanup.media", "--wait")

    assert done.returncode == 1
    assert f'the root "{media}" is missing; is its disk mounted?' in done.stdout
    assert "tried again in 10s (attempt 2 of 6)" in done.stdout


def test_a_partial_job_has_an_exit_code_of_its_own(pocketwatch: Program, running: Process, tokens: Tokens):
    tokens.issue({"count": 3, "issued_days_ago": 70})

    assert pocketwatch("trigger", "cleanup.tokens", "--set", "max_deleted=1", "--wait").returncode == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cleanup.tokns"], 'there is no job "cleanup.tokns"; did you mean "cleanup.tokens"?'),
        (["cleanup.tokens", "--set", "days=3"], 'cleanup.tokens does not take this: unknown field "days"'),
        (["cleanup.tokens", "--set", "retention_days=-3"], "retention_days is -3: must be greater than or equal to 0"),
        (["cleanup.tokens", "--set", "retention_days=soon"], 'retention_days is "soon": must be a valid integer'),
        (["cleanup.tokens", "--set", "retention_days"], '"retention_days" is no argument; write it as name=value'),
        (["cleanup.tokens", "--json", "[1]"], "--json must be an object"),
        (["cleanup.tokens", "--json", "{"], "--json is no JSON"),
        (["cleanup.tokens", "--wait", "--timeout", "long"], '--timeout: "long" is no duration'),
    ],
)
def test_a_mistake_is_told_in_one_line_and_nothing_is_sent(pocketwatch: Program, arguments: list[str], words: str):
    done = pocketwatch("trigger", *arguments)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("pocketwatch: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("payload", ["", "{}", '{"retention_days": 7}'])
def test_a_job_is_triggered_from_the_management_ui(
    pocketwatch: Program, running: Process, servers: Servers, vhost: str, payload: str
):
    assert through_the_management_ui(servers, vhost, "cleanup.media", payload)

    running.until("message.handled")
    (row,) = pocketwatch.json("runs")
    assert (row["job"], row["trigger"], row["status"], row["entry"]) == ("cleanup.media", "manual", "succeeded", None)


def test_what_is_wrong_from_the_management_ui_is_a_dead_letter_that_can_be_put_right(
    pocketwatch: Program, running: Process, servers: Servers, vhost: str
):
    through_the_management_ui(servers, vhost, "cleanup.media", '{"retention_day": 7}')
    running.until("message.dead_lettered")

    (row,) = pocketwatch.json("runs")
    assert row["status"] == "rejected"
    (letter,) = pocketwatch.json("dead", "list")
    assert letter["error"] == 'unknown field "retention_day"; did you mean "retention_days"?'
    assert letter["headers"]["x-error-type"] == "InvalidMessage"
    shown = pocketwatch("dead", "show", letter["message_id"])
    assert "retention_day" in shown.stdout
    assert pocketwatch("dead", "drop", letter["message_id"], "--yes").returncode == 0
    assert pocketwatch.json("dead", "list") == []


def test_a_dead_letter_is_sent_back_when_its_cause_is_gone(
    pocketwatch: Program, environment: dict[str, str], media: Path
):
    pocketwatch("migrate")
    without = {name: value for name, value in pocketwatch.environment.items() if name != "POCKETWATCH_MEDIA_ROOT"}
    broken = Program(without, pocketwatch.folder)
    process = broken.start("consume", "cleanup")
    process.until("consumers.started")
    sent = pocketwatch("trigger", "cleanup.media", "--wait")
    process.kill()
    assert sent.returncode == 1
    (letter,) = pocketwatch.json("dead", "list", "--queue", "cleanup.media")

    pocketwatch.start("consume").until("consumers.started")
    assert pocketwatch("dead", "requeue", letter["message_id"]).returncode == 0

    for _ in range(100):
        rows = pocketwatch.json("runs")
        if rows[0]["status"] == "succeeded":
            break
    assert {row["message_id"] for row in rows} == {letter["message_id"]}
    assert [(row["status"], row["attempt"]) for row in rows] == [("succeeded", 2), ("dead", 1)]
    assert pocketwatch.json("dead", "list") == []


async def test_a_run_that_was_handed_on_is_shown_in_all_its_parts_and_ends_with_the_worst(
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


def test_a_user_of_the_broker_without_rights_is_told_which_one_is_missing(
    pocketwatch: Program, servers: Servers, vhost: str
):
    with servers.management as api:
        api.put("/users/guest-of-ours", json={"password": "secret", "tags": ""}).raise_for_status()
        nothing = {"configure": "", "write": ".*", "read": ".*"}
        api.put(f"/permissions/{vhost}/guest-of-ours", json=nothing).raise_for_status()
    url = urlsplit(pocketwatch.environment["RABBITMQ_URL"])
    weak = url._replace(netloc=f"guest-of-ours:secret@{url.hostname}:{url.port}").geturl()

    done = pocketwatch("migrate", RABBITMQ_URL=weak)

    with servers.management as api:
        api.delete("/users/guest-of-ours")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert 'pocketwatch: the broker refuses exchange "ticks"' in done.stderr
    assert "docs/operations.md" in done.stderr


def test_dead_letters_that_are_not_there_are_told(pocketwatch: Program):
    pocketwatch("migrate")

    assert "there is no dead letter" in pocketwatch("dead", "show", "nothing").stderr
    assert "say which: message ids, or --all" in pocketwatch("dead", "requeue").stderr
    assert "there is no queue" in pocketwatch("dead", "list", "--queue", "nothing").stderr
    assert pocketwatch("dead", "requeue", "--all").returncode == 1


def test_the_schedule_is_listed_without_any_server(pocketwatch: Program):
    offline = Program(
        {"PATH": pocketwatch.environment["PATH"], "PYTHONPATH": pocketwatch.environment["PYTHONPATH"]},
        pocketwatch.folder,
    )

    entries = offline.json("schedule", "list")

    assert [entry["name"] for entry in entries] == [entry.name for entry in schedule.load().entries]
    assert all(entry["next"] > "2026" and entry["state"] == "on" for entry in entries)


def test_the_schedule_is_proved_to_its_consumers(pocketwatch: Program):
    before = pocketwatch("schedule", "check", "--json")
    assert before.returncode == 1
    assert {row["problem"] for row in json.loads(before.stdout)} == {
        f'queue "{entry.job}" does not exist; run: pocketwatch migrate' for entry in schedule.load().entries
    }

    pocketwatch("migrate")
    without_consumers = pocketwatch.json("schedule", "check")
    assert {row["result"] for row in without_consumers} == {"warning"}

    pocketwatch.start("consume").until("consumers.started")
    assert {row["result"] for row in pocketwatch.json("schedule", "check")} == {"ok"}


def test_a_wrong_schedule_refuses_to_start(pocketwatch: Program):
    wrong = pocketwatch.folder / "wrong.toml"
    wrong.write_text('[[entry]]\nname = "nightly"\ncron = "0 2 * * *"\njob = "cleanup.tokns"\nwhy = "x"\n')
    pocketwatch("migrate")

    for arguments in (["publish"], ["run"], ["schedule", "list"]):
        done = pocketwatch(*arguments, POCKETWATCH_SCHEDULE=str(wrong))
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("pocketwatch: the schedule")
        assert 'entry "nightly"' in last
        assert 'did you mean "cleanup.tokens"?' in last


def test_an_entry_is_paused_and_resumed_with_a_reason(pocketwatch: Program):
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
    assert "is paused already" in pocketwatch("schedule", "pause", name, "--reason", "again").stderr
    assert pocketwatch("schedule", "resume", name).returncode == 0
    assert "is not paused" in pocketwatch("schedule", "resume", name).stderr
    assert "there is no entry" in pocketwatch("schedule", "pause", "nothing", "--reason", "x").stderr


def test_the_doctor_finds_what_is_missing_and_then_nothing(pocketwatch: Program, rates: StoredRates):
    sick = pocketwatch("doctor", "--json")
    assert sick.returncode == 1
    found = {finding["subject"]: finding for finding in json.loads(sick.stdout)}
    assert found["cleanup.tokens"]["detail"] == "the queue does not exist; run: pocketwatch migrate"
    assert found["platform tables"]["result"] == "ok"

    pocketwatch("migrate")
    for currency in Rates().currencies:
        rates.add(currency)
    pocketwatch.start("consume").until("consumers.started")
    well = pocketwatch("doctor", "--json")
    assert well.returncode == 0, well.stdout
    assert {finding["result"] for finding in json.loads(well.stdout)} == {"ok"}


def test_the_doctor_tells_what_cannot_be_published_and_goes_on_where_a_right_is_missing(
    pocketwatch: Program, rates: StoredRates
):
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
    assert found["outbox"]["result"] == "problem"
    assert found["outbox"]["detail"] == "1 could not be published so far, such as: no queue is bound"
    found = {finding["subject"]: finding for finding in json.loads(weak.stdout)}
    assert "lacks a right (docs/operations.md): permission denied" in found["database"]["detail"]
    assert "RabbitMQ" in found


def test_the_doctor_names_a_misspelt_setting_a_missing_file_and_an_unreachable_server(pocketwatch: Program):
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
            "DATABASE_URL cannot be used: `sslmode` parameter must be one of: disable, allow, prefer",
        ),
        ({"RABBITMQ_URL": ""}, "RABBITMQ_URL is not set"),
        ({"DATABASE_URL": ""}, "DATABASE_URL is not set"),
        ({"POCKETWATCH_GRACE": "long"}, 'POCKETWATCH_GRACE is "long"'),
        ({"POCKETWATCH_MEDIA_ROOT": "/"}, 'POCKETWATCH_MEDIA_ROOT is "/": must not be the root of the file system'),
        ({"POCKETWATCH_LOG_FILE": "/proc/no/log"}, 'POCKETWATCH_LOG_FILE is "/proc/no/log", which cannot be written'),
    ],
)
@pytest.mark.parametrize("command", ["consume", "publish", "run"])
def test_a_process_that_cannot_start_says_why_in_one_line(
    pocketwatch: Program, command: str, changes: dict[str, str], words: str
):
    pocketwatch("migrate")

    done = pocketwatch(command, **{"POCKETWATCH_PATIENCE": "1s", **changes})

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("pocketwatch: ")
    assert words in last
    assert "Traceback" not in done.stderr


def test_a_group_that_does_not_exist_is_told(pocketwatch: Program):
    done = pocketwatch("consume", "cleanups")

    assert done.returncode == 1
    assert done.stderr == f'pocketwatch: there is no group "cleanups"; known are {", ".join(GROUPS)}\n'


def test_tables_that_are_not_there_are_told(pocketwatch: Program, servers: Servers):
    done = pocketwatch("runs", DATABASE_URL=servers.postgresql("postgres"))

    assert done.stderr == (
        'pocketwatch: relation "update_logs" does not exist; the suite\'s tables are made by: pocketwatch migrate\n'
    )


def test_a_process_touches_its_heartbeat_while_it_works(pocketwatch: Program):
    pocketwatch("migrate")
    heartbeat = pocketwatch.folder / "alive/heartbeat"
    heartbeat.parent.mkdir()

    process = pocketwatch.start("run", POCKETWATCH_HEARTBEAT_FILE=str(heartbeat))
    process.until("publishers.started")

    for _ in range(100):
        if heartbeat.exists():
            break
        process.until("publishers.started")
    assert heartbeat.exists()
    assert process.stop() == 0


def test_a_heartbeat_that_cannot_be_written_ends_the_process_and_says_so(pocketwatch: Program):
    pocketwatch("migrate")

    done = pocketwatch("publish", POCKETWATCH_HEARTBEAT_FILE="/proc/no/heartbeat")

    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith('pocketwatch: POCKETWATCH_HEARTBEAT_FILE is "/proc/no/heartbeat", which cannot be written')


def test_logs_go_to_a_file_too_when_one_is_set(pocketwatch: Program):
    pocketwatch("migrate")
    file = pocketwatch.folder / "suite.log"

    process = pocketwatch.start("consume", POCKETWATCH_LOG_FILE=str(file), POCKETWATCH_LOG_FORMAT="console")
    for _ in range(200):
        if file.exists() and "consumers.started" in file.read_text():
            break
        __import__("time").sleep(0.05)
    process.stop()

    events = [json.loads(line)["event"] for line in file.read_text().splitlines()]
    assert events == ["consumers.started", "service.stopping", "service.stopped"]
    assert "consuming              queues=" in process.log.read_text()
