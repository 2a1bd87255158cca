"""What is decided about a letter, from its row of the log and from what became of it; pure."""

from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest

from consumers.mail.delivery import WAITS, conclude, deliver_letter
from consumers.mail.delivery_log import (
    DOUBTS,
    LEASE,
    TRIED_FOR,
    Claim,
    Ledger,
)
from consumers.mail.queries import Crowd, Row
from pocketwatch import settings
from pocketwatch.clock import utc_now
from pocketwatch.errors import RetryLater
from pocketwatch.smtp.replies import Fate
from pocketwatch.storage.database import Database
from pocketwatch.worker.context import SideEffectContext
from pocketwatch.worker.executors import SideEffectExecutor
from tests.support.ledger import envelope

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ALL_DAY = {"quiet_from": time(0, 1), "quiet_until": time(23, 59)}
DEAD_SENDER = {"status": "sending", "attempts": 1, "updated_at": NOW - LEASE}
ABOVE = 3  # letters, after which more are held

UNWANTED = [
    ({"suppressed": ["all"]}, "suppressed"),
    ({"suppressed": ["subscribed"]}, "suppressed"),
    ({"wants_email": False}, "suppressed"),
    ({"asked_at": NOW - timedelta(days=30)}, "expired"),
]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    environment = {"POCKETWATCH_TIMEZONE": "UTC", "POCKETWATCH_DIGEST_ABOVE": str(ABOVE)}
    return Ledger(settings.load(environment, folder=tmp_path))


@pytest.fixture
def context(tmp_path: Path) -> SideEffectContext:
    nowhere = Database("postgresql://user@127.0.0.1:1/x")
    loaded = settings.load({}, folder=tmp_path)
    executor = SideEffectExecutor("mail.delivery", deliver_letter, nowhere, loaded)
    return SideEffectContext(envelope(1), utc_now(), settings=loaded, run_batched=executor.run_batched)


def claim(**changes: Any) -> Claim:
    fields = {"key": "a-key", "recipient": "a@example.com", "letter": "ad_flagged", "locale": "uk", "external_id": "id"}
    return Claim(**{**fields, "expires_at": None, "keeps_for": timedelta(days=7), "subscribed": True, **changes})


def row(**changes: Any) -> Row:
    asked = NOW - timedelta(hours=1)
    fields = {"key": "a-key", "id": 1, "status": "pending", "attempts": 0, "doubts": 0, "asked_at": asked, "now": NOW}
    wishes = {"suppressed": [], "wants_email": True, "quiet_from": None, "quiet_until": None, "timezone": None}
    return Row(**{**fields, **wishes, "updated_at": asked, "is_held": False, "digest": None, **changes})


def test_a_letter_that_nothing_speaks_against_is_sent(ledger: Ledger):
    verdict = ledger.decide(claim(), row(), Crowd())

    assert (verdict.act, verdict.status, verdict.attempt) == ("send", "sending", 1)


@pytest.mark.parametrize(("found", "status"), UNWANTED)
def test_a_letter_that_nobody_wants_is_not_sent(ledger: Ledger, found: dict[str, Any], status: str):
    verdict = ledger.decide(claim(), row(**found), None)

    assert (verdict.act, verdict.status) == ("stop", status)


@pytest.mark.parametrize(("found", "status"), UNWANTED)
@pytest.mark.parametrize("before", [{"doubts": 1, "status": "unknown", "attempts": 1}, DEAD_SENDER])
def test_what_may_have_arrived_is_never_said_to_be_unsent(
    ledger: Ledger, found: dict[str, Any], status: str, before: dict[str, Any]
):
    verdict = ledger.decide(claim(), row(**before, **found), None)

    assert (verdict.act, verdict.status) == ("stop", "unknown")
    assert verdict.reason


def test_in_quiet_hours_a_letter_rests_as_what_it_was(ledger: Ledger):
    assert ledger.decide(claim(), row(**ALL_DAY), None).status == "pending"
    assert ledger.decide(claim(), row(**ALL_DAY, doubts=1, status="unknown"), None).status == "unknown"
    assert ledger.decide(claim(), row(**ALL_DAY, **DEAD_SENDER), None).status == "unknown"
    assert ledger.decide(claim(critical=True), row(**ALL_DAY), None).act == "send"


def test_a_sender_counts_as_alive_for_the_length_of_his_lease(ledger: Ledger):
    alive = row(**DEAD_SENDER | {"updated_at": NOW - LEASE + timedelta(seconds=1)})

    waiting, taken_over = ledger.decide(claim(), alive, None), ledger.decide(claim(), row(**DEAD_SENDER), None)

    assert (waiting.act, waiting.after) == ("wait", timedelta(seconds=1))
    assert (taken_over.act, taken_over.attempt) == ("send", 2)


def test_no_letter_is_sent_that_may_have_arrived_so_many_times(ledger: Ledger):
    for found in ({"doubts": DOUBTS, "status": "unknown"}, DEAD_SENDER | {"doubts": DOUBTS - 1}):
        verdict = ledger.decide(claim(), row(**found), None)

        assert (verdict.act, verdict.status) == ("stop", "unknown")


@pytest.mark.parametrize("status", ["sent", "failed", "suppressed", "expired"])
def test_what_is_over_is_over(ledger: Ledger, status: str):
    assert ledger.decide(claim(), row(status=status), None).act == "stop"


def test_a_letter_has_failed_when_the_server_has_put_it_off_for_too_long(ledger: Ledger):
    long_ago = {"asked_at": NOW - TRIED_FOR}

    assert ledger.decide(claim(), row(**long_ago, attempts=4), None).status == "failed"
    assert ledger.decide(claim(), row(**long_ago), None).act == "send"  # it was held, and never tried
    assert ledger.decide(claim(), row(asked_at=NOW - TRIED_FOR + timedelta(seconds=1), attempts=4), None).act == "send"


def test_what_is_more_than_a_reader_should_get_is_held(ledger: Ledger):
    def act(crowd: Crowd | None, **found: Any) -> str:
        return ledger.decide(claim(), row(**found), crowd).act

    assert act(Crowd(sent=ABOVE - 1)) == "send"
    assert act(Crowd(sent=ABOVE)) == "hold"
    assert act(Crowd(sent=0, is_holding=True)) == "hold"
    assert act(None) == "send"


@pytest.mark.parametrize("found", [{"digest": "a-key"}, {"doubts": 1, "status": "unknown"}, DEAD_SENDER])
def test_what_came_out_of_a_digest_or_may_have_arrived_is_not_held_any_more(ledger: Ledger, found: dict[str, Any]):
    assert ledger.decide(claim(), row(**found), Crowd(sent=100, is_holding=True)).act == "send"


@pytest.mark.parametrize("outcome", ["refused", "bad_address", "unknown"])
def test_a_letter_that_is_not_tried_again_makes_its_run_partial(context: SideEffectContext, outcome: Any):
    conclude(Fate(outcome, "550 no", "dot"), context, attempt=2, doubts=DOUBTS)

    assert (context.status, context.reason) == ("partial", "550 no")


def test_a_letter_in_doubt_is_tried_again_until_there_are_so_many_doubts(context: SideEffectContext):
    with pytest.raises(RetryLater, match="nobody knows whether it was sent: connection lost"):
        conclude(Fate("unknown", "connection lost", "dot"), context, attempt=1, doubts=DOUBTS - 1)


@pytest.mark.parametrize(("attempt", "after"), [(1, WAITS[0]), (2, WAITS[1]), (3, WAITS[2]), (9, WAITS[2])])
def test_a_letter_that_the_server_puts_off_waits_longer_each_time(
    context: SideEffectContext, attempt: int, after: timedelta
):
    with pytest.raises(RetryLater) as raised:
        conclude(Fate("later", "451 not now", "rcpt"), context, attempt=attempt, doubts=0)

    assert raised.value.after == after


def test_a_name_that_a_server_repeats_stands_in_no_run_log(context: SideEffectContext):
    conclude(Fate("refused", "550 <olena.p+ads@example.com> unknown", "rcpt"), context, attempt=1, doubts=0)

    assert context.reason == "550 <…@example.com> unknown"
