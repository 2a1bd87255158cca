"""Two processes that claimed the same email, on a real database."""

from datetime import timedelta

import sqlalchemy as sa

from consumers.mail.decisions import Claim
from consumers.mail.delivery_log import DeliveryLog, Result
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database

CLAIM = Claim(
    key="a-key",
    recipient="a@example.com",
    email="ad_approved",
    locale="uk",
    external_id="<an-id@example.com>",
    expires_at=None,
    lifetime=timedelta(days=1),
)
ROW = sa.text("SELECT status, reply, doubts FROM moderation_notification_logs WHERE key = 'a-key'")


async def test_late_result_of_another_process_does_not_overwrite_sent(database: Database, settings: Settings):
    log = DeliveryLog(settings)
    async with database.begin() as connection:
        await log.claim(connection, [CLAIM])
        await log.record_result(connection, [Result("a-key", "sent", "250 taken")])

        unconfirmed = await log.record_result(
            connection, [Result("a-key", "unknown", "", "connection lost", is_unconfirmed=True)]
        )

        assert unconfirmed == [0]
        assert (await connection.execute(ROW)).one() == ("sent", "250 taken", 0)
