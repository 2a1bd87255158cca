"""cleanup.tokens on the tables that simplejwt's own migrations make, with tokens that it has issued."""

from tests.fixtures.suite import Deliver
from tests.fixtures.tokens import Tokens
from schemas.ticks import CleanTokens


async def test_tokens_that_expired_before_the_margin_go_with_their_blacklist_rows(deliver: Deliver, tokens: Tokens):
    tokens.issue(
        {"count": 5, "issued_days_ago": 70, "blacklist": 2},  # expired 40 days ago
        {"count": 4, "issued_days_ago": 40, "blacklist": 1},  # expired 10 days ago
        {"count": 3, "issued_days_ago": 1, "blacklist": 3},
    )

    row = await deliver(CleanTokens())

    assert row["status"] == "succeeded"
    assert row["statistics"] == {
        "scanned": 12,
        "outstanding_deleted": 5,
        "blacklisted_deleted": 2,
        "kept_within_margin": 4,
        "unreadable": 0,
    }
    assert tokens.counts() == (7, 4)
