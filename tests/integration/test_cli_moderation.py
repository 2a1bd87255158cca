"""`pocketwatch moderation`, as an operator uses it."""

from datetime import timedelta
from pathlib import Path

import pytest

from consumers.moderation.review import replay
from consumers.moderation.review.judge import rules_of
from consumers.moderation.rules.engine import RuleSet
from pocketwatch.storage.database import Database
from tests.fixtures.moderation import CLEAN, PHONE, RUDE, Review, Submitted, rule_file
from tests.fixtures.suite import Program


async def test_replay_shows_changed_verdicts_and_is_read_only(
    pocketwatch: Program, review: Review, submitted: Submitted
):
    winter, phone, plain = submitted.add(f"{CLEAN} Winter гума."), submitted.add(PHONE), submitted.add(CLEAN)
    for ad in (winter, phone, plain):
        await review(ad)
    never = submitted.add(f"{CLEAN} Winter гума. Alloy диски.")
    staff = submitted.add(f"{CLEAN} Winter гума!", owner=submitted.user(staff=True))
    await review(staff)
    rules = rule_file(pocketwatch.folder / "new.toml", "winter", shadow="alloy")
    before = [submitted.rows(f"SELECT * FROM {table} ORDER BY id") for table in ("car_ads", "moderation_decisions")]

    found = pocketwatch.json("moderation", "replay", "--rules", str(rules))

    assert (found["rules"], found["ads"], found["changed"]) == ("of a test", 5, 3)
    assert {(row["before"], row["now"]): row["ads"] for row in found["verdicts"]} == {
        ("approve", "review"): 1,
        ("approve", "approve"): 1,
        ("needs_edit", "approve"): 1,
        (None, "review"): 1,
        ("bypass", "review"): 1,
    }
    assert found["hits"] == [
        {"rule": "test.winter", "shadow": False, "ads": 3},
        {"rule": "test.alloy", "shadow": True, "ads": 1},
    ]
    assert [(each["ad_id"], each["before"], each["now"], each["reasons"]) for each in found["samples"]] == [
        (never, None, "review", ["The word winter."]),
        (phone, "needs_edit", "approve", []),
        (winter, "approve", "review", ["The word winter."]),
    ]
    after = [submitted.rows(f"SELECT * FROM {table} ORDER BY id") for table in ("car_ads", "moderation_decisions")]
    assert after == before


async def test_replay_of_current_rules_shows_no_changes(pocketwatch: Program, review: Review, submitted: Submitted):
    for text in (CLEAN, PHONE, RUDE):
        await review(submitted.add(text))

    done = pocketwatch("moderation", "replay")

    assert (done.returncode, done.stderr) == (0, "")
    assert f"rules {rules_of(None).version}: 0 of 3 verdicts would change" in done.stdout
    assert "contact.phone" in done.stdout


@pytest.mark.parametrize(
    ("options", "ads"), [([], 2), (["--since", "10d"], 2), (["--since", "100d"], 3), (["--limit", "1"], 1)]
)
async def test_replay_honours_since_and_limit(pocketwatch: Program, submitted: Submitted, options: list[str], ads: int):
    old = submitted.add()
    submitted.execute("UPDATE car_ads SET updated_at = now() - interval '99 days' WHERE id = %(ad)s", ad=old)
    submitted.add()
    submitted.add()

    assert pocketwatch.json("moderation", "replay", *options)["ads"] == ads


@pytest.mark.parametrize("limit", [None, 7])
async def test_replay_reads_all_pages(
    database: Database, submitted: Submitted, monkeypatch: pytest.MonkeyPatch, limit: int | None
):
    monkeypatch.setattr(replay, "PAGE_SIZE", 3)
    monkeypatch.setattr(replay, "MAX_SAMPLES", 4)
    owner = submitted.user()
    ids = [submitted.add(PHONE, owner=owner) for _ in range(9)]

    found = await replay.replay(database, RuleSet.load(), since=timedelta(days=30), limit=limit)

    assert found.ads == (limit or 9)
    assert [sample.ad_id for sample in found.samples] == ids[:-5:-1]


def test_invalid_duration_is_reported(pocketwatch: Program):
    done = pocketwatch("moderation", "replay", "--since", "a month")

    assert done.returncode == 1
    assert done.stderr.startswith('pocketwatch: --since is "a month": not a duration')


def test_valid_rule_file_is_summarized(pocketwatch: Program, tmp_path: Path):
    rules = rule_file(tmp_path / "rules.toml", "winter", "summer", shadow="alloy")

    done = pocketwatch("moderation", "check", str(rules))

    assert (done.returncode, done.stdout, done.stderr) == (0, "rules of a test: 3 rules, 1 of them in shadow\n", "")


def test_current_rules_are_valid(pocketwatch: Program):
    assert pocketwatch("moderation", "check").returncode == 0


def test_invalid_rule_file_is_reported(pocketwatch: Program, tmp_path: Path):
    rules = rule_file(tmp_path / "rules.toml", "winter")
    rules.write_text(rules.read_text(encoding="utf-8").replace('"flag"', '"reject"'), encoding="utf-8")

    done = pocketwatch("moderation", "check", str(rules))

    assert done.returncode == 1
    assert "a word list alone never rejects" in done.stderr


async def test_decisions_about_an_ad_are_shown(pocketwatch: Program, review: Review, submitted: Submitted):
    ad = submitted.add(PHONE)
    await review(ad)
    submitted.edit(ad, CLEAN)
    await review(ad)

    found = pocketwatch.json("moderation", "decisions", str(ad))
    shown = pocketwatch("moderation", "decisions", str(ad)).stdout

    assert [row["action"] for row in found] == ["needs_edit", "approve"]
    assert found[0]["details"]["hits"][0]["rule"] == "contact.phone"
    assert "needs_edit" in shown
    assert f"rules {rules_of(None).version}" in " ".join(shown.split())
