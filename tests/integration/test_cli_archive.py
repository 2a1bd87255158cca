"""`pocketwatch archive`, as an operator uses it."""

import getpass

import psycopg
import pytest

from schemas.ticks import ArchiveAds
from tests.fixtures.ads import Ads
from tests.fixtures.suite import Deliver, Program


@pytest.mark.parametrize("status", ["sold", "rejected", "active"])
async def test_archived_ad_is_restored_and_left_alone(
    pocketwatch: Program, deliver: Deliver, ads: Ads, operator_actions, status: str
):
    (ad,) = ads.add(status)
    await deliver(ArchiveAds())
    assert ads.statuses() == {ad: "archived"}

    done = pocketwatch("archive", "restore", str(ad), "--reason", "the owner has called", "--actor", "olena")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f'ad {ad} is "{status}" again; it was archived at 20')
    decision = ads.decisions()[-1]
    assert {key: decision[key] for key in ("action", "from_status", "to_status", "reason", "actor")} == {
        "action": "restored",
        "from_status": "archived",
        "to_status": status,
        "reason": "the owner has called",
        "actor": "olena",
    }
    (action,) = await operator_actions()
    assert (action["actor"], action["source"], action["action"]) == ("olena", "cli", "archive.restore")
    assert (action["target"], action["reason"]) == (f"ad {ad}", "the owner has called")
    assert (action["before"], action["after"]) == ({"status": "archived"}, {"status": status})
    row = await deliver(ArchiveAds())
    assert ads.statuses() == {ad: status}
    assert row["statistics"]["kept_restored"] == (0 if status == "active" else 1)


async def test_actor_defaults_to_the_user_of_the_machine(pocketwatch: Program, deliver: Deliver, ads: Ads):
    (ad,) = ads.add("sold")
    await deliver(ArchiveAds())

    pocketwatch("archive", "restore", str(ad))

    assert (ads.decisions()[-1]["actor"], ads.decisions()[-1]["reason"]) == (getpass.getuser(), "restored by hand")


async def test_unrestorable_ads_are_refused_with_the_reason(pocketwatch: Program, deliver: Deliver, ads: Ads):
    (active,), (foreign,) = ads.add("active", updated=1), ads.add("archived")
    (twice,) = ads.add("sold")
    await deliver(ArchiveAds())
    assert pocketwatch("archive", "restore", str(twice)).returncode == 0
    with psycopg.connect(ads.database_url) as manager:
        manager.execute("UPDATE car_ads SET status = 'archived' WHERE id = %s", [twice])

    for arguments, words in {
        ("4711",): "ad 4711: not found",
        (str(active),): f'ad {active}: not archived but "active"; there is nothing to restore',
        (str(foreign),): f"ad {foreign}: not archived by the suite; change its status on the platform",
        (str(twice),): f"ad {twice}: not archived by the suite; change its status on the platform",
        (str(active), "--reason", " "): "--reason: empty; say why the ad is restored",
    }.items():
        done = pocketwatch("archive", "restore", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"pocketwatch: {words}\n")
    assert len(ads.decisions()) == 2


@pytest.mark.parametrize("ad_id", ["Tavria", "0", "-1", "9223372036854775808"])
def test_invalid_ad_id_is_refused(pocketwatch: Program, ad_id: str):
    done = pocketwatch("archive", "restore", "--", ad_id)

    assert done.returncode == 2
    assert "ad_id" in done.stderr
    assert "Traceback" not in done.stderr


async def test_archived_ads_are_listed_with_their_present_status(pocketwatch: Program, deliver: Deliver, ads: Ads):
    (sold,), (rejected,) = ads.add("sold"), ads.add("rejected")
    row = await deliver(ArchiveAds())
    pocketwatch("archive", "restore", str(sold))

    listed = pocketwatch.json("archive", "list")

    assert [(line["ad_id"], line["from_status"], line["status_now"]) for line in listed] == [
        (rejected, "rejected", "archived"),
        (sold, "sold", "sold"),
    ]
    assert {line["message_id"] for line in listed} == {row["message_id"]}
    assert len(pocketwatch.json("archive", "list", "--limit", "1")) == 1
    assert "it was rejected" in pocketwatch("archive", "list").stdout


def test_each_command_shows_an_example(pocketwatch: Program):
    for command in ("list", "restore"):
        done = pocketwatch("archive", command, "--help")
        assert done.returncode == 0
        assert f"Example: pocketwatch archive {command}" in done.stdout


async def test_restoring_does_not_wait_long_for_an_edit(pocketwatch: Program, deliver: Deliver, ads: Ads):
    (ad,) = ads.add("sold")
    await deliver(ArchiveAds())

    with psycopg.connect(ads.database_url) as editor:
        editor.execute("SELECT FROM car_ads WHERE id = %s FOR UPDATE", [ad])
        done = pocketwatch("archive", "restore", str(ad))

    assert done.returncode == 1
    assert done.stderr.startswith("pocketwatch: another transaction has locked a table or row, and nothing was changed")
    assert ads.statuses() == {ad: "archived"}
