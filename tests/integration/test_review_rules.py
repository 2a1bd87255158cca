"""Which rules decide: those of the settings, a rule in shadow for the record only, and none that cannot be read."""

from pathlib import Path

import pytest

from consumers.moderation.judging import rules_of
from pocketwatch.errors import TryLater
from tests.fixtures.moderation import CLEAN, PHONE, Review, Submitted, rule_file


@pytest.fixture
def file(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A rule file of the site's own, and the settings pointing at it."""
    path = rule_file(tmp_path / "rules.toml", "winter", shadow="alloy")
    environment["POCKETWATCH_MODERATION_RULES"] = str(path)
    return path


async def test_the_rules_of_the_settings_decide(file: Path, review: Review, submitted: Submitted):
    ad, other = submitted.add(f"{CLEAN} Winter гума."), submitted.add(PHONE)

    await review(ad, locale="en")
    await review(other)

    assert submitted.row(ad)["status"] == "needs_review"
    assert submitted.row(ad)["moderation_reason"].startswith("The word winter.\nA moderator will look at the ad")
    assert submitted.decisions(ad)[-1]["rules_version"] == "of a test"
    assert submitted.row(other)["status"] == "active"


async def test_a_rule_in_shadow_is_recorded_and_decides_nothing(file: Path, review: Review, submitted: Submitted):
    ad = submitted.add(f"{CLEAN} Alloy диски.")

    await review(ad)

    (decision,) = submitted.decisions(ad)
    assert (decision["action"], decision["details"]["hits"]) == ("approve", [])
    assert [hit["rule"] for hit in decision["details"]["shadow"]] == ["test.alloy"]
    assert submitted.sent()["ad.moderated"]["categories"] == []


async def test_rules_that_cannot_be_read_keep_ads_waiting_and_are_read_again(
    file: Path, review: Review, submitted: Submitted
):
    ad, rules = submitted.add(CLEAN), file.read_text(encoding="utf-8")
    rules_of.cache_clear()
    file.write_text("version = 1", encoding="utf-8")
    with pytest.raises(TryLater, match=f'the rules "{file}" are wrong: version is 1'):
        await review(ad)
    assert submitted.row(ad)["status"] == "pending"

    file.write_text(rules, encoding="utf-8")
    await review(ad)

    assert submitted.row(ad)["status"] == "active"
