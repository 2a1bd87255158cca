"""Decisions about emails, from their rows in the log and from delivery results."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from consumers.mail.decisions import (
    LEASE,
    MAX_UNCONFIRMED,
    RETRY_FOR,
    Claim,
    DeliveryPolicy,
    LogRow,
    RecentVolume,
)
from consumers.mail.delivery import RETRY_DELAYS, conclude, deliver_email
from pocketwatch import settings
from pocketwatch.clock import utc_now
from pocketwatch.errors import RetryLater
from pocketwatch.smtp.replies import DeliveryResult
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import SideEffectContext
from pocketwatch.worker.executors import SideEffectExecutor
from tests.support.ledger import envelope

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALL_DAY = {"quiet_from": time(0, 1), "quiet_until": time(23, 59)}
DEAD_SENDER = {"state": "sending", "attempts": 1, "updated_at": NOW - LEASE}
THRESHOLD = 3

UNWANTED = [
    ({"suppressed": ["all"]}, "suppressed"),
    ({"suppressed": ["subscribed"]}, "suppressed"),
    ({"wants_email": False}, "suppressed"),
    ({"requested_at": NOW - timedelta(days=30)}, "expired"),
]


@pytest.fixture
def policy() -> DeliveryPolicy:
    return DeliveryPolicy(ZoneInfo("UTC"), THRESHOLD)


@pytest.fixture
def context(tmp_path: Path) -> SideEffectContext:
    nowhere = Database("postgresql://user@127.0.0.1:1/x")
    loaded = settings.load({}, folder=tmp_path)
    executor = SideEffectExecutor("mail.delivery", deliver_email, nowhere, loaded)
    return SideEffectContext(envelope(1), utc_now(), settings=loaded, run_batched=executor.run_batched)


def claim(**changes: Any) -> Claim:
    fields = {"key": "a-key", "recipient": "a@example.com", "email": "ad_flagged", "locale": "uk", "external_id": "id"}
    return Claim(**{**fields, "expires_at": None, "lifetime": timedelta(days=7), "subscribed": True, **changes})


def row(**changes: Any) -> LogRow:
    requested = NOW - timedelta(hours=1)
    fields = {"key": "a-key", "id": 1, "state": "pending", "attempts": 0, "unconfirmed": 0, "now": NOW}
    fields |= {"requested_at": requested, "updated_at": requested, "is_held": False, "digest": None}
    preferences = {"suppressed": [], "wants_email": True, "quiet_from": None, "quiet_until": None, "timezone": None}
    return LogRow(**{**fields, **preferences, **changes})


def test_wanted_email_is_sent(policy: DeliveryPolicy):
    decision = policy.decide(claim(), row(), RecentVolume())

    assert (decision.action, decision.state, decision.attempt) == ("send", "sending", 1)


@pytest.mark.parametrize(("found", "state"), UNWANTED)
def test_unwanted_email_is_not_sent(policy: DeliveryPolicy, found: dict[str, Any], state: str):
    decision = policy.decide(claim(), row(**found), None)

    assert (decision.action, decision.state) == ("stop", state)


@pytest.mark.parametrize(("found", "state"), UNWANTED)
@pytest.mark.parametrize("before", [{"unconfirmed": 1, "state": "unknown", "attempts": 1}, DEAD_SENDER])
def test_unconfirmed_email_is_never_marked_as_unsent(
    policy: DeliveryPolicy, found: dict[str, Any], state: str, before: dict[str, Any]
):
    decision = policy.decide(claim(), row(**before, **found), None)

    assert (decision.action, decision.state) == ("stop", "unknown")
    assert decision.reason


def test_email_keeps_its_state_in_quiet_hours(policy: DeliveryPolicy):
    assert policy.decide(claim(), row(**ALL_DAY), None).state == "pending"
    assert policy.decide(claim(), row(**ALL_DAY, unconfirmed=1, state="unknown"), None).state == "unknown"
    assert policy.decide(claim(), row(**ALL_DAY, **DEAD_SENDER), None).state == "unknown"
    assert policy.decide(claim(critical=True), row(**ALL_DAY), None).action == "send"


def test_sender_is_alive_until_its_lease_ends(policy: DeliveryPolicy):
    alive = row(**DEAD_SENDER | {"updated_at": NOW - LEASE + timedelta(seconds=1)})

    waiting, taken_over = policy.decide(claim(), alive, None), policy.decide(claim(), row(**DEAD_SENDER), None)

    assert (waiting.action, waiting.after) == ("wait", timedelta(seconds=1))
    assert (taken_over.action, taken_over.attempt) == ("send", 2)


def test_email_is_not_sent_after_too_many_unconfirmed_attempts(policy: DeliveryPolicy):
    for found in (
        {"unconfirmed": MAX_UNCONFIRMED, "state": "unknown"},
        DEAD_SENDER | {"unconfirmed": MAX_UNCONFIRMED - 1},
    ):
        decision = policy.decide(claim(), row(**found), None)

        assert (decision.action, decision.state) == ("stop", "unknown")


@pytest.mark.parametrize("state", ["sent", "failed", "suppressed", "expired"])
def test_final_state_is_kept(policy: DeliveryPolicy, state: str):
    assert policy.decide(claim(), row(state=state), None).action == "stop"


def test_email_deferred_for_too_long_has_failed(policy: DeliveryPolicy):
    long_ago = {"requested_at": NOW - RETRY_FOR}

    assert policy.decide(claim(), row(**long_ago, attempts=4), None).state == "failed"
    assert policy.decide(claim(), row(**long_ago), None).action == "send"  # held, and never tried
    assert (
        policy.decide(claim(), row(requested_at=NOW - RETRY_FOR + timedelta(seconds=1), attempts=4), None).action
        == "send"
    )


def test_emails_above_the_threshold_are_held(policy: DeliveryPolicy):
    def action(volume: RecentVolume | None, **found: Any) -> str:
        return policy.decide(claim(), row(**found), volume).action

    assert action(RecentVolume(sent=THRESHOLD - 1)) == "send"
    assert action(RecentVolume(sent=THRESHOLD)) == "hold"
    assert action(RecentVolume(sent=0, is_holding=True)) == "hold"
    assert action(None) == "send"


@pytest.mark.parametrize("found", [{"digest": "a-key"}, {"unconfirmed": 1, "state": "unknown"}, DEAD_SENDER])
def test_released_or_unconfirmed_email_is_not_held(policy: DeliveryPolicy, found: dict[str, Any]):
    assert policy.decide(claim(), row(**found), RecentVolume(sent=100, is_holding=True)).action == "send"


@pytest.mark.parametrize("outcome", ["refused", "bad_address", "unknown"])
def test_email_that_is_not_retried_makes_the_run_partial(context: SideEffectContext, outcome: Any):
    conclude(DeliveryResult(outcome, "550 no", "end_of_data"), context, attempt=2, unconfirmed=MAX_UNCONFIRMED)

    assert (context.status, context.reason) == ("partial", "550 no")


def test_unconfirmed_email_is_retried_up_to_the_limit(context: SideEffectContext):
    with pytest.raises(RetryLater, match="delivery unconfirmed: connection lost"):
        conclude(
            DeliveryResult("unknown", "connection lost", "end_of_data"),
            context,
            attempt=1,
            unconfirmed=MAX_UNCONFIRMED - 1,
        )


@pytest.mark.parametrize(("attempt", "after"), [*enumerate(RETRY_DELAYS, 1), (9, RETRY_DELAYS[-1])])
def test_retry_delays_grow(context: SideEffectContext, attempt: int, after: timedelta):
    with pytest.raises(RetryLater) as raised:
        conclude(DeliveryResult("later", "451 not now", "rcpt"), context, attempt=attempt, unconfirmed=0)

    assert raised.value.after == after


def test_local_part_repeated_by_a_server_is_masked(context: SideEffectContext):
    conclude(
        DeliveryResult("refused", "550 <olena.p+ads@example.com> unknown", "rcpt"), context, attempt=1, unconfirmed=0
    )

    assert context.reason == "550 <…@example.com> unknown"
