"""Commands that print what others wrote: it is neither markup nor control, and stops no command."""

import asyncio
import json
import mailbox
import re
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path

import aio_pika
import pytest
import sqlalchemy as sa

from console.operations.why import planned_near
from consumers.analytics.quick_stats import Figures
from pocketwatch.broker.publisher import Publisher
from pocketwatch.clock import utc_now
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite
from publishers import schedule
from tests.fixtures.ads import Ads
from tests.fixtures.servers import ROOT
from tests.support.commands import leaves

HOSTILE = "[/b]\x1b[2J\x07\u202e\x9b31m[link=x]\nforged"
FORGED = re.compile("^forged", re.MULTILINE)
CONTROLS = {"\x1b", "\x07", "\u202e", "\x9b"}
COMMANDS = (
    "runs",
    "runs --status running",
    "runs list",
    "runs list --json",
    "runs show hostile",
    "runs show hostile --json",
    "runs stop hostile --reason hostile --author hostile",
    "retries list",
    "retries list --json",
    "retries now hostile",
    "processes",
    "processes --json",
    "why vacuum-weekly",
    "why vacuum-weekly --json",
    "why hostile",
    "rates list",
    "rates list --json",
    "rates log",
    "rates log --json",
    "web user list",
    "web user list --json",
    "web user role hostile viewer",
    "web user password hostile",
    "web user remove hostile",
    "web user add hostile",
    "notices",
    "notices --json",
    "mail resend hostile",
    "mail resend 1",
    "mail suppress hostile --reason hostile",
    "mail caught",
    "mail caught --json",
    "mail caught --show 1",
    "mail caught --show 1 --json",
    "mail suppressed",
    "mail suppressed --json",
    "archive list",
    "archive list --json",
    "moderation replay",
    "moderation replay --json",
    "moderation replay --rules hostile",
    "moderation check hostile",
    "moderation decisions 1",
    "moderation decisions 1 --json",
    "analytics show quick_stats",
    "analytics show quick_stats --json",
    "schedule list",
    "schedule list --json",
    "schedule check",
    "schedule check --file hostile",
    "schedule simulate --days 1",
    "schedule run hostile",
    "schedule resume vacuum-weekly",
    "dead list",
    "dead list --json",
    "dead show hostile",
    "dead show hostile --json",
    "dead edit hostile",
    "dead requeue hostile",
    "dead drop hostile --yes",
    "doctor",
    "doctor --json",
    "trigger [/b]\x1b[2J",
    "trigger cleanup.tokens --set [/b]\x1b[2J=1",
    "runs --job [/b]\x1b[2J",
    "runs show [/b]\x1b[2J",
    "archive restore 1 --reason [/b]\x1b[2J",
    "mail forget [/b]\x1b[2J",
    "schedule pause [/b]\x1b[2J --reason x",
    "consume [/b]\x1b[2J",
    "grants --name hostile",
    "docs schemas --output hostile/x",
)
# Those that print nothing that others wrote, and what ends only with a signal.
OWN_WORDS = {"publish", "run", "migrate", "docs asyncapi", "analytics verify", "analytics rebuild"}
OWN_WORDS |= {"mail preview", "stack up", "stack down", "stack status", "stack env"}
# Those that print a hostile text as it is, but for its controls.
SHOW_IT = (
    "runs",
    "notices",
    "dead list",
    "dead show hostile",
    "schedule list",
    "archive list",
    "doctor",
    "retries list",
)
SHOW_IT += ("processes", "why vacuum-weekly", "rates log", "web user list", "mail caught", "mail caught --show 1")
CALL_ALL = """
import contextlib, io, json, os, sys
os.environ["EDITOR"] = "true"
sys.stdin = io.StringIO()
from console.cli import main
results = {}
for command in json.loads(sys.argv[1]):
    out, words = io.StringIO(), [word.replace("hostile", sys.argv[2]) for word in command.split(" ")]
    sys.argv[1:] , kept = words, sys.argv[1:]
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main.main()
        except SystemExit as ended:
            code = ended.code
        except BaseException as error:
            code = f"CRASH {error!r}"
    sys.argv[1:] = kept
    results[command] = [code, out.getvalue()]
sys.__stdout__.write(json.dumps(results))
"""


def test_every_command_is_tried():
    tried = [name for name in leaves() if any(f"{command} ".startswith(f"{name} ") for command in COMMANDS)]

    assert sorted(OWN_WORDS | set(tried)) == sorted(leaves())
    assert OWN_WORDS & set(tried) == set()


@pytest.fixture
async def hostile(database: Database, publisher: Publisher, ads: Ads) -> None:
    """Rows and dead letters whose texts are all hostile."""
    snapshot = dict.fromkeys(Figures.__dataclass_fields__, HOSTILE)
    decision = dict.fromkeys(("from_status", "to_status", "reason", "actor", "message_id", "rules_version"), HOSTILE)
    run = {"job": HOSTILE, "entry": HOSTILE, "correlation_id": HOSTILE, "trigger": "manual", "worker": HOSTILE}
    more = {"statistics": {HOSTILE: HOSTILE}, "error": HOSTILE, "payload": {HOSTILE: HOSTILE}, "traceback": HOSTILE}
    retry = {"message_id": f"retry {HOSTILE}", "status": "failed", "attempt": 1, "finished_at": sa.func.now()}
    missed = {"state": "missed", "reason": HOSTILE, "outcome": "missed", "settled_at": sa.func.now()}
    planned = planned_near(schedule.load().entry("vacuum-weekly"), utc_now(), only_before=True)
    process = {"kind": "consume", "groups": [HOSTILE], "host": HOSTILE, "version": HOSTILE, "queues": [HOSTILE]}
    update = {"status": HOSTILE[:10], "source": HOSTILE[:20], "currencies_updated": 0, "currencies_failed": 1}
    update |= {"triggered_by": HOSTILE, "error_details": {"error": HOSTILE}}
    moments = dict.fromkeys(("fetched_at", "created_at", "updated_at"), sa.func.now())
    notice = dict.fromkeys(("recipient", "error_message", "external_id", "key", "letter", "locale", "reply"), HOSTILE)
    async with database.begin() as connection:
        for attempt, status in enumerate(("failed", "running"), 1):
            finished = None if status == "running" else sa.func.now()
            row = {"message_id": HOSTILE, "status": status, "attempt": attempt, "finished_at": finished}
            await connection.execute(sa.insert(suite.update_logs).values(**run, **more, **row))
        await connection.execute(
            sa.insert(suite.update_logs).values(
                **run, **more, **retry, next_attempt_at=sa.text("now() + interval '1 hour'")
            )
        )
        await connection.execute(
            sa.insert(suite.fires).values(entry="vacuum-weekly", due_at=planned, timetable=HOSTILE, **missed)
        )
        await connection.execute(sa.insert(suite.processes).values(**process, pid=1, healthy=False, problem=HOSTILE))
        await connection.execute(
            sa.insert(suite.incidents).values(kind="failing", subject=HOSTILE, detail=HOSTILE, remedy=HOSTILE)
        )
        await connection.execute(
            sa.insert(suite.currency_update_logs).values(**update, started_at=sa.func.now(), created_at=sa.func.now())
        )
        await connection.execute(
            sa.insert(suite.currency_rates).values(
                **moments, base_currency="UAH", target_currency="\x1b[2", rate=1, source=HOSTILE[:20], is_active=True
            )
        )
        await connection.execute(sa.insert(suite.web_users).values(name=HOSTILE, password=HOSTILE, role="viewer"))
        await connection.execute(sa.insert(suite.moderation_decisions).values(ad_id=1, action="archived", **decision))
        await connection.execute(
            sa.insert(suite.notification_logs).values(
                **notice, method="email", status="failed", sent_at=sa.func.now(), state="failed"
            )
        )
        await connection.execute(
            sa.insert(suite.mail_suppressions).values(address=HOSTILE.lower(), scope="all", reason=HOSTILE)
        )
        await connection.execute(
            sa.insert(suite.schedule_pauses).values(entry="vacuum-weekly", author=HOSTILE, reason=HOSTILE)
        )
        await connection.execute(
            sa.insert(suite.analytics_snapshots).values(kind="quick_stats", period=HOSTILE, payload=snapshot)
        )
        await connection.execute(
            sa.insert(suite.outbox).values(
                message_id=HOSTILE, exchange="ticks", routing_key=HOSTILE, payload={}, attempts=7, last_error=HOSTILE
            )
        )
    headers = {"x-error": HOSTILE, "x-error-type": HOSTILE, "x-last-failed-at": HOSTILE, HOSTILE: HOSTILE}
    hostile = aio_pika.Message(HOSTILE.encode(), message_id=HOSTILE, headers=headers)
    await publisher.publish(hostile, exchange="", routing_key="cleanup.tokens.dead")


def catch(folder: Path) -> None:
    """Store a hostile email, as the mail catcher does."""
    email = EmailMessage()
    email["X-Envelope-From"], email["X-Envelope-To"] = "a@example.com", "b@example.com"
    email["To"], email["Subject"] = "b@example.com", HOSTILE.replace("\n", " ")
    email.set_content(HOSTILE)
    folder.mkdir()
    mailbox.Maildir(folder / "mail").add(email)


@pytest.mark.timeout(300)  # so many commands, one after the other
@pytest.mark.usefixtures("hostile")
async def test_no_command_prints_controls_or_takes_data_for_markup(environment: dict[str, str], tmp_path: Path):
    catch(tmp_path / ".pocketwatch")

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", CALL_ALL, json.dumps(COMMANDS), HOSTILE],
        env={name: value for name, value in environment.items() if name != "SMTP_URL"}
        | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    results = json.loads(done.stdout)
    printed = {command: f"{code}\n{text}" for command, (code, text) in results.items()}
    assert {command: text for command, text in printed.items() if "CRASH" in text} == {}
    assert {command: text for command, text in printed.items() if CONTROLS & set(text)} == {}
    assert [command for command, text in printed.items() if FORGED.search(text)] == ["mail caught --show 1"]  # its text
    assert [command for command in SHOW_IT if r"[/b]\x1b[2J\x07\u202e" not in printed[command]] == []
