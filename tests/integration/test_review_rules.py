"""Configured rule files: their rules decide, rules in shadow are recorded, and invalid files are refused."""

from pathlib import Path

import pytest

from tests.fixtures.moderation import CLEAN, PHONE, Review, Submitted, rule_file
from tests.fixtures.suite import Program, reason_of


@pytest.fixture
def file(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A rule file, with the settings pointing at it."""
    path = rule_file(tmp_path / "rules.toml", "winter", shadow="alloy")
    environment["POCKETWATCH_MODERATION_RULES"] = str(path)
    return path


async def test_configured_rules_decide(file: Path, review: Review, submitted: Submitted):
    ad, other = submitted.add(f"{CLEAN} Winter гума."), submitted.add(PHONE)

    await review(ad, locale="en")
    await review(other)

    assert submitted.row(ad)["status"] == "needs_review"
    assert submitted.row(ad)["moderation_reason"].startswith("The word winter.\nA moderator will look at the ad")
    assert submitted.decisions(ad)[-1]["rules_version"] == "of a test"
    assert submitted.row(other)["status"] == "active"


async def test_shadow_rule_is_recorded_without_effect(file: Path, review: Review, submitted: Submitted):
    ad = submitted.add(f"{CLEAN} Alloy диски.")

    await review(ad)

    (decision,) = submitted.decisions(ad)
    assert (decision["action"], decision["details"]["hits"]) == ("approve", [])
    assert [hit["rule"] for hit in decision["details"]["shadow"]] == ["test.alloy"]
    assert submitted.sent()["ad.moderated"]["categories"] == []


def test_consumers_do_not_start_with_invalid_rules(file: Path, pocketwatch: Program):
    file.write_text("version = 1", encoding="utf-8")

    for command in (("consume", "moderation"), ("run",)):
        done = pocketwatch(*command)

        assert (done.returncode, done.stdout) == (1, "")
        assert reason_of(done).startswith(f'rule file "{file}": version is 1')
