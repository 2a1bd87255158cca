"""`pocketwatch analytics`: whether the roll-ups are true, and counting them anew."""

import json
from datetime import UTC, datetime, timedelta

from schemas.ticks import QuickStats
from tests.fixtures.activity import Activity
from tests.fixtures.suite import Deliver, Program

A_WEEK_AGO = datetime.now(UTC) - timedelta(days=7)


async def test_what_is_true_is_said_to_be_and_what_was_tampered_with_is_shown_and_mended(
    activity: Activity, deliver: Deliver, pocketwatch: Program
):
    activity.ads(A_WEEK_AGO, A_WEEK_AGO)
    await deliver(QuickStats())
    true = pocketwatch("analytics", "verify", "--all")
    activity.run("UPDATE daily_activity SET new_ads = 5 WHERE new_ads = 2")

    wrong = pocketwatch("analytics", "verify", "--all")
    read = pocketwatch("analytics", "verify", "--all", "--json")
    mended = pocketwatch("analytics", "rebuild")
    again = pocketwatch("analytics", "verify", "--all")

    assert (true.returncode, true.stdout) == (0, "0 segments and 7 days compared, 0 differences\n")
    assert wrong.returncode == 1
    assert "new_ads" in wrong.stdout
    (difference,) = json.loads(read.stdout)["differences"]
    assert (difference["what"], difference["rolled_up"], difference["there"]) == ("new_ads", 5, 2)
    assert mended.returncode == 0, mended.stderr
    assert "days_corrected=" in mended.stdout
    assert again.returncode == 0, again.stdout
