"""`pocketwatch analytics`: show, verify and rebuild."""

import json
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from schemas.ticks import QuickStats
from tests.fixtures.activity import Activity
from tests.fixtures.suite import Deliver, Program

SNAPSHOT = """
INSERT INTO analytics_snapshots (kind, period, payload, generated_at)
VALUES (%(kind)s, '2026-03-29', %(payload)s, now())
"""
A_WEEK_AGO = datetime.now(UTC) - timedelta(days=7)


async def test_verify_shows_differences_and_rebuild_corrects_them(
    activity: Activity, deliver: Deliver, pocketwatch: Program, operator_actions
):
    activity.ads(A_WEEK_AGO, A_WEEK_AGO)
    await deliver(QuickStats())
    true = pocketwatch("analytics", "verify", "--all")
    activity.run("UPDATE daily_activity SET new_ads = 5 WHERE new_ads = 2")

    wrong = pocketwatch("analytics", "verify", "--all")
    read = pocketwatch("analytics", "verify", "--all", "--json")
    rebuilt = pocketwatch("analytics", "rebuild", "--actor", "olena")
    again = pocketwatch("analytics", "verify", "--all")

    assert (true.returncode, true.stdout) == (0, "0 id ranges and 7 days compared, 0 differences\n")
    assert wrong.returncode == 1
    assert "new_ads" in wrong.stdout
    (difference,) = json.loads(read.stdout)["differences"]
    assert (difference["what"], difference["rolled_up"], difference["there"]) == ("new_ads", 5, 2)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "days_corrected=" in rebuilt.stdout
    assert again.returncode == 0, again.stdout
    (action,) = await operator_actions()
    assert (action["actor"], action["source"], action["action"]) == ("olena", "cli", "analytics.rebuild")
    assert action["after"]["days_corrected"] == 1


@pytest.mark.parametrize("payload", ["{}", "[]", '{"overview": 1, "figures": "x", "total_ads": "many"}'])
@pytest.mark.parametrize("kind", ["quick_stats", "platform", "daily_report"])
def test_snapshot_of_another_version_is_refused_as_table_and_shown_as_json(
    activity: Activity, pocketwatch: Program, kind: str, payload: str
):
    activity.run(SNAPSHOT, kind=kind, payload=payload)

    shown = pocketwatch("analytics", "show", kind)
    read = pocketwatch("analytics", "show", kind, "--json")

    assert json.loads(read.stdout)["payload"] == json.loads(payload)
    if (kind, payload) != ("quick_stats", "{}"):
        assert (shown.returncode, shown.stdout) == (1, "")
        assert shown.stderr == (f"pocketwatch: snapshot {kind} of 2026-03-29: made by another version; use --json\n")


async def test_rebuild_reports_a_locked_table(activity: Activity, deliver: Deliver, pocketwatch: Program):
    await deliver(QuickStats())

    with psycopg.connect(activity.database_url) as migration:
        migration.execute("LOCK TABLE view_counts IN ACCESS EXCLUSIVE MODE")
        locked = pocketwatch("analytics", "rebuild")

    assert locked.returncode == 1
    assert locked.stderr.splitlines()[-1] == (
        "pocketwatch: a table is locked by another session, or another roll-up takes long"
    )
