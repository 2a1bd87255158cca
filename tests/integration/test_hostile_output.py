"""Commands that print what others wrote: it is neither markup nor control, and stops no command."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import aio_pika
import pytest
import sqlalchemy as sa

from consumers.analytics.quick_stats import Figures
from pocketwatch.broker.publisher import Publisher
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables import suite
from tests.fixtures.ads import Ads
from tests.fixtures.servers import ROOT

HOSTILE = "[/b]\x1b[2J\x07\u202e\x9b31m[link=x]\nforged"
COMMANDS = (
    "runs",
    "runs --status running",
    "runs list --json",
    "runs show hostile",
    "runs show hostile --json",
    "notices",
    "notices --json",
    "mail suppressed",
    "mail suppressed --json",
    "archive list",
    "archive list --json",
    "moderation decisions 1",
    "moderation decisions 1 --json",
    "analytics show quick_stats",
    "analytics show quick_stats --json",
    "schedule list",
    "schedule list --json",
    "schedule check",
    "dead list",
    "dead list --json",
    "dead show hostile",
    "dead show hostile --json",
    "dead requeue hostile",
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
)
CALL_ALL = """
import contextlib, io, json, sys
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


@pytest.fixture
async def hostile(database: Database, publisher: Publisher, ads: Ads) -> None:
    """Rows and dead letters whose texts are all hostile."""
    snapshot = dict.fromkeys(Figures.__dataclass_fields__, HOSTILE)
    decision = dict.fromkeys(("from_status", "to_status", "reason", "actor", "message_id", "rules_version"), HOSTILE)
    run = {"job": HOSTILE, "entry": HOSTILE, "correlation_id": HOSTILE, "trigger": "manual", "worker": HOSTILE}
    more = {"statistics": {HOSTILE: HOSTILE}, "error": HOSTILE, "payload": {HOSTILE: HOSTILE}, "traceback": HOSTILE}
    notice = dict.fromkeys(("recipient", "error_message", "external_id", "key", "letter", "locale", "reply"), HOSTILE)
    async with database.begin() as connection:
        for attempt, status in enumerate(("failed", "running"), 1):
            finished = None if status == "running" else sa.func.now()
            row = {"message_id": HOSTILE, "status": status, "attempt": attempt, "finished_at": finished}
            await connection.execute(sa.insert(suite.update_logs).values(**run, **more, **row))
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


@pytest.mark.usefixtures("hostile")
async def test_no_command_prints_controls_or_takes_data_for_markup(environment: dict[str, str], tmp_path: Path):
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", CALL_ALL, json.dumps(COMMANDS), HOSTILE],
        env=environment | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    results = json.loads(done.stdout)
    for command, (code, text) in results.items():
        assert "CRASH" not in str(code), command
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(f"{code}{text}"), command
        assert [line for line in text.splitlines() if line.startswith("forged")] == [], command
    for command in ("runs", "notices", "dead list", "dead show hostile", "schedule list", "archive list", "doctor"):
        assert r"[/b]\x1b[2J\x07\u202e" in results[command][1], command
