"""What the log of letters says in the end, when two have taken the same letter; on a real database."""

from datetime import timedelta

import sqlalchemy as sa

from consumers.mail.delivery_log import Claim, Ledger, Settled
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database

CLAIM = Claim(
    key="a-key",
    recipient="a@example.com",
    letter="ad_approved",
    locale="uk",
    external_id="<an-id@example.com>",
    expires_at=None,
    keeps_for=timedelta(days=1),
)
ROW = sa.text("SELECT status, reply, doubts FROM moderation_notification_logs WHERE key = 'a-key'")


async def test_what_was_sent_is_not_unsaid_by_another_who_took_the_sender_for_dead(
    database: Database, settings: Settings
):
    ledger = Ledger(settings)
    async with database.begin() as connection:
        await ledger.take(connection, [CLAIM])
        await ledger.settle(connection, [Settled("a-key", "sent", "250 taken")])

        doubts = await ledger.settle(connection, [Settled("a-key", "unknown", "", "connection lost", is_doubt=True)])

        assert doubts == [0]
        assert (await connection.execute(ROW)).one() == ("sent", "250 taken", 0)
