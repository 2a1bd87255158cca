"""What `doctor` says of the suite at work, which its own files and servers do not show."""

import json
import re
import shutil
from typing import Any

import pytest

from pocketwatch.broker.publisher import Publisher
from publishers import schedule
from schemas.ticks import UpdateRates
from tests.fixtures.banks import Banks
from tests.fixtures.suite import Deliver, Program
from tests.fixtures.watched import Watched
from tests.support.waiting import eventually

Finding = tuple[str, str]  # result and detail


def findings(pocketwatch: Program, *options: str, **changes: str) -> dict[str, Finding]:
    printed = pocketwatch("doctor", "--json", *options, **changes).stdout
    return {each["subject"]: (each["result"], each["detail"]) for each in json.loads(printed)}


async def _started(watched: Watched, pid: int) -> None:
    async def look() -> bool:
        return bool(watched.rows("SELECT 1 FROM processes WHERE pid = %(pid)s AND healthy", pid=pid))

    await eventually(look)


async def test_dead_ticker_is_a_problem(pocketwatch: Program, publisher: Publisher, watched: Watched):
    process = pocketwatch.start("publish")
    await _started(watched, process.popen.pid)
    before = findings(pocketwatch)
    process.kill()
    watched.execute("UPDATE processes SET heartbeat_at = now() - interval '130 s'")  # so much later
    watched.execute("UPDATE schedule_entries SET next_due_at = now() + interval '1 hour'")
    watched.execute("UPDATE schedule_entries SET next_due_at = now() - interval '90 s' WHERE entry LIKE 'clean-%%'")
    done = pocketwatch("doctor", "--json")

    after = {each["subject"]: (each["result"], each["detail"]) for each in json.loads(done.stdout)}
    assert before[f"publish on {watched.rows('SELECT host FROM processes')[0]['host']}:{process.popen.pid}"][0] == "ok"
    assert before["schedule in force"] == ("ok", f"{len(schedule.load().entries)} entries as in the file")
    assert done.returncode == 1
    result, detail = after["no publisher: publishers"]
    assert result == "problem"
    assert f":{process.popen.pid}, died at " in detail
    assert "; 5 entries are overdue, clean-" in detail
    assert detail.endswith("; start one: pocketwatch publish")


async def test_entry_that_publishers_do_not_have_is_a_warning(
    pocketwatch: Program, publisher: Publisher, watched: Watched
):
    own = pocketwatch.folder / "own.toml"
    shutil.copy(schedule.DEFAULT, own)
    process = pocketwatch.start("publish")
    await _started(watched, process.popen.pid)
    own.write_text(own.read_text() + '[[entry]]\nname = "new"\ncron = "* * * * *"\njob = "mail.digest"\nwhy = "x"\n')

    result, detail = findings(pocketwatch, POCKETWATCH_SCHEDULE=str(own))["schedule in force"]

    assert result == "warning"
    assert detail.startswith(f"publishers run another schedule than {own} (loaded: {schedule.DEFAULT}); new never ")


async def test_job_that_fails_again_and_again_is_a_problem(pocketwatch: Program, banks: Banks, deliver: Deliver):
    for bank in (banks.nbu, banks.privatbank):
        bank.says(b"no JSON")
    for _ in range(3):
        await deliver(UpdateRates())

    found = findings(pocketwatch)

    result, detail = found["failing: rates.update"]
    assert result == "problem"
    assert re.match(r"failed \d times in a row, last: NBU: ", detail)
    assert re.search(r"; \d messages? to be retried, the next at ", detail)
    assert re.search(r"; rates.update failed \d times in a row, last: NBU: ", found["stale rates: rates"][1])
    assert found["runs of rates.update"][0] == "warning"


def test_processes_watchdog_and_pauses_are_shown(pocketwatch: Program, publisher: Publisher, watched: Watched):
    watched.process("consume", pid=1, seen=3600, stopped=True)
    watched.process("consume", pid=2, seen=3600)
    watched.process("publish", pid=3)
    watched.process("consume", pid=4, problem="the database does not answer")
    for entry, hours in (("clean-sessions-daily", None), ("archive-ads-daily", 2)):
        watched.execute(
            "INSERT INTO schedule_pauses (entry, author, reason, paused_at, expires_at) VALUES "
            "(%(entry)s, 'olena', 'disk is full', now() - interval '1 hour', now() + %(hours)s * interval '1 hour')",
            entry=entry,
            hours=hours,
        )
    watched.execute("INSERT INTO incidents (kind, subject, detail, remedy) VALUES ('slow', 'cleanup.media', 'x', 'x')")

    found = findings(pocketwatch)

    assert found["watchdog"][0] == "problem"
    assert found["publish on here:3"][0] == "ok"
    assert found["consume on here:4"][0] == "warning"
    assert "consume on here:1" not in found
    assert "consume on here:2" not in found  # another one does the same
    assert found["unhealthy: the database does not answer"][0] == "problem"
    result, detail = found["entry clean-sessions-daily"]
    assert result == "warning"
    assert detail.startswith("paused without an end by olena: disk is full; to resume it: pocketwatch schedule resume ")
    assert found["entry archive-ads-daily"][0] == "ok"
    assert found["slow: cleanup.media"][1].endswith(", not found now; it closes after the next checks")


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 1)])
def test_strict_counts_warnings(pocketwatch: Program, publisher: Publisher, options: list[str], code: int):
    done = pocketwatch("doctor", *options)

    assert done.stdout.splitlines()[-1].startswith("0 problems, ")
    assert not done.stdout.splitlines()[-1].endswith(" 0 warnings")
    assert done.returncode == code


def test_only_problems_are_shown_and_fit_a_terminal(pocketwatch: Program, publisher: Publisher):
    done = pocketwatch("doctor", "--problems", COLUMNS="80")
    as_json: list[dict[str, Any]] = json.loads(pocketwatch("doctor", "--problems", "--json").stdout)

    assert "PostgreSQL" not in done.stdout
    assert {each["result"] for each in as_json} == {"warning"}
    words = [line for line in done.stdout.splitlines() if len(line) > 80]
    assert words == []
