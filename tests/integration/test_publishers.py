"""Ticker, relay and trigger on real servers."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.storage import fires, outbox
from pocketwatch.storage.database import Database, clock_time
from pocketwatch.storage.fires import Fire
from pocketwatch.storage.tables import suite
from publishers import route_check
from publishers.relay import BATCH, Relay
from publishers.ticker import LEAD, Ticker
from schemas.envelope import Envelope
from tests.fixtures.suite import Consume, Runs
from tests.support.schedules import entry, last_ticker_stopped, rows, schedule, set_clock, states
from tests.support.waiting import eventually


async def test_new_entry_is_registered_and_fires_next_time(database: Database):
    ticker = Ticker(database, schedule())

    await ticker.begin()
    assert await states(database) == ["introduced"]
    await asyncio.sleep(await ticker.tick() + 0.02)
    await ticker.tick()

    registration, fire, *_ = await rows(database, suite.fires)
    assert fire["state"] == "published"
    assert fire["due_at"].microsecond == 0
    assert registration["due_at"] < fire["due_at"]
    message, *_ = await rows(database, suite.outbox)
    assert message["message_id"] == fire["message_id"] == f"an-entry@{fire['due_at']:%Y%m%dT%H%M%SZ}"
    assert (message["exchange"], message["routing_key"], message["payload"]) == (
        "ticks",
        "cleanup.media",
        {"dry_run": True},
    )
    assert message["headers"] == {
        "x-trigger": "schedule",
        "x-entry": "an-entry",
        "x-due-at": fire["due_at"].isoformat(),
        "x-attempt": 1,
    }


async def test_fire_is_recorded_a_moment_ahead_and_its_message_waits_until_it_is_due(database: Database):
    hourly, noon = entry(cron="0 * * * *"), datetime(2026, 6, 1, 12, tzinfo=UTC)
    await set_clock(database, noon - 2 * LEAD)
    ticker = Ticker(database, schedule(hourly))
    await ticker.begin()

    wait = await ticker.tick()
    assert await states(database) == ["introduced"]
    await set_clock(database, noon - LEAD / 2)
    await ticker.tick()
    later = Ticker(database, schedule(hourly))  # it begins before the fire is due, and does not record it again
    await later.begin()
    await later.tick()

    assert wait <= LEAD.total_seconds()
    assert await states(database) == ["introduced", "published"]
    (message,) = await rows(database, suite.outbox)
    assert message["available_at"] == noon


async def test_fire_that_is_late_is_published_at_once(database: Database):
    hourly, noon = entry(cron="0 * * * *", catch_up="latest"), datetime(2026, 6, 1, 12, tzinfo=UTC)
    await set_clock(database, noon - timedelta(minutes=1))
    ticker = Ticker(database, schedule(hourly))
    await ticker.begin()

    await set_clock(database, noon + timedelta(minutes=10))
    await ticker.tick()

    (message,) = await rows(database, suite.outbox)
    assert message["available_at"] == noon + timedelta(minutes=10)


async def test_relay_ends_when_what_was_recorded_ahead_is_published(database: Database, publisher: Publisher):
    await ask(database, 2)
    async with database.begin() as connection:
        await connection.execute(sa.text("UPDATE outbox SET available_at = clock_timestamp() + interval '0.15 s'"))
        await connection.execute(
            sa.text(
                "INSERT INTO outbox (message_id, exchange, routing_key, payload, available_at) "
                "VALUES ('later', 'ticks', 'cleanup.media', '{}', now() + interval '1 hour')"
            )
        )
    relay = Relay(database, publisher)
    relay.finish()

    running = asyncio.create_task(relay._send_and_wait(None))
    await asyncio.sleep(0.05)
    assert await waiting(publisher) == 0
    await asyncio.wait_for(running, 10)

    assert [row["message_id"] for row in await rows(database, suite.outbox) if row["sent_at"] is None] == ["later"]
    for row in await rows(database, suite.outbox):
        assert row["sent_at"] is None or row["sent_at"] >= row["available_at"]


async def test_what_is_due_in_a_moment_is_locked_before_and_published_then(database: Database, publisher: Publisher):
    await ask(database, 3)
    due = await make_due_in(database, "0.15 s")
    relay = Relay(database, publisher)

    ahead = asyncio.create_task(relay.send_ahead())
    await asyncio.sleep(0.05)
    others = [await waiting(publisher), await Relay(database, publisher).send_ahead()]
    sent = await ahead

    assert (others, sent, await waiting(publisher)) == ([0, 0], 3, 3)
    assert all(row["sent_at"] >= due for row in await rows(database, suite.outbox))


async def test_what_is_due_in_a_moment_does_not_wait_for_what_waits_already(database: Database, publisher: Publisher):
    await ask(database, BATCH + 1)
    due = await make_due_in(database, "0.15 s", count=1)
    relay = Relay(database, publisher)

    assert await relay.send_ahead() == 1

    sent = [row for row in await rows(database, suite.outbox) if row["sent_at"] is not None]
    assert [row["available_at"] for row in sent] == [due]


async def test_what_a_relay_had_locked_before_it_died_is_published_by_another(database: Database, publisher: Publisher):
    await ask(database, 1)
    await make_due_in(database, "0.15 s")
    async with database.begin() as dying:
        coming = await outbox.coming(dying)
        assert coming is not None
        assert len(await outbox.claim_ahead(dying, coming[0], size=BATCH)) == 1
        await asyncio.sleep(0.2)
        assert await Relay(database, publisher).send_batch() == 0

    assert await Relay(database, publisher).send_batch() == 1
    assert await waiting(publisher) == 1


async def test_nothing_is_locked_that_is_due_later(database: Database, publisher: Publisher):
    await ask(database, 1)
    await make_due_in(database, "1 hour")

    assert await asyncio.wait_for(Relay(database, publisher).send_ahead(), 5) == 0


async def make_due_in(database: Database, delay: str, *, count: int | None = None) -> datetime:
    """Delay the newest rows of the outbox, or all; return when they are due."""
    async with database.begin() as connection:
        found = await connection.execute(
            sa.text(
                "UPDATE outbox SET available_at = clock.at FROM "
                "(SELECT clock_timestamp() + CAST(CAST(:delay AS text) AS interval) AS at) AS clock "
                "WHERE id IN (SELECT id FROM outbox ORDER BY id DESC LIMIT :count) RETURNING available_at"
            ),
            {"delay": delay, "count": count},
        )
        due: datetime = found.scalars().first()
        return due


async def test_concurrent_tickers_record_each_fire_once(database: Database):
    tickers = [Ticker(database, schedule(entry("one"), entry("two"))) for _ in range(4)]

    working = [asyncio.create_task(ticker.run()) for ticker in tickers]
    await asyncio.sleep(3.3)
    for task in working:
        task.cancel()
    await asyncio.gather(*working, return_exceptions=True)

    published = [row for row in await rows(database, suite.fires) if row["state"] == "published"]
    for name in ("one", "two"):
        times = [row["due_at"] for row in published if row["entry"] == name]
        assert len(times) >= 3
        assert times == [times[0] + timedelta(seconds=n) for n in range(len(times))]
    assert len(await rows(database, suite.outbox)) == len(published)


async def test_fire_recorded_by_another_is_not_recorded_again(database: Database):
    one, now = entry(), datetime.now(UTC).replace(microsecond=0)
    name = Envelope(message_id="once", correlation_id="once", exchange="ticks", routing_key=one.job)
    fire = Fire(entry=one.name, due_at=now, timetable=one.timetable, envelope=name)

    async with database.begin() as connection:
        first = await fires.record(connection, [fire])
        second = await fires.record(connection, [fire])

    assert (first, second) == ([fire], [])
    assert [row["message_id"] for row in await rows(database, suite.outbox)] == ["once"]


async def test_concurrent_tickers_register_an_entry_once(database: Database):
    tickers = [Ticker(database, schedule()) for _ in range(3)]

    async with database.begin() as connection:
        await connection.execute(sa.text("LOCK TABLE fires IN SHARE MODE"))  # readers pass, writers wait
        beginning = [asyncio.create_task(ticker.begin()) for ticker in tickers]
        await eventually(lambda: blocked(database, count=len(tickers)))
    await asyncio.gather(*beginning)

    assert await states(database) == ["introduced"]


async def blocked(database: Database, *, count: int) -> bool:
    """Return whether so many connections wait for a lock."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with database.begin() as connection:
        return bool((await connection.execute(sa.text(sql))).scalar_one() == count)


async def test_missed_fires_are_found_after_an_outage(database: Database):
    hourly = entry(cron="0 * * * *", catch_up="latest")
    await last_ticker_stopped(database, hourly, timedelta(hours=4))

    ticker = Ticker(database, schedule(hourly))
    await ticker.begin()
    await ticker.tick()

    assert await states(database) == ["introduced", "missed", "missed", "missed", "published"]
    reasons = {row["reason"] for row in await rows(database, suite.fires) if row["state"] == "missed"}
    assert reasons == {"no publisher was running; only the latest missed fire is published"}
    assert len(await rows(database, suite.outbox)) == 1


async def test_entry_with_a_new_timetable_is_registered_again(database: Database):
    await last_ticker_stopped(database, entry(cron="0 * * * *"), timedelta(hours=4))

    ticker = Ticker(database, schedule(entry(cron="30 * * * *")))
    await ticker.begin()
    await ticker.tick()

    assert await states(database) == ["introduced", "introduced"]


async def test_foreign_message_with_the_id_of_a_fire_does_not_stop_the_schedule(database: Database):
    hourly = entry(cron="0 * * * *")
    await last_ticker_stopped(database, hourly, timedelta(hours=1))
    async with database.begin() as connection:
        hour = (await clock_time(connection)).replace(minute=0, second=0, microsecond=0)
        name = f"an-entry@{hour:%Y%m%dT%H%M%SZ}"
        celery = Envelope(message_id=name, correlation_id=name, exchange="ticks", routing_key="analytics.quick_stats")
        table, values = outbox.of(celery, {})
        await connection.execute(sa.insert(table), values)
    ticker = Ticker(database, schedule(hourly, entry("another")))
    await ticker.begin()

    await asyncio.sleep(await ticker.tick() + 0.02)
    await ticker.tick()

    fired = {row["message_id"] for row in await rows(database, suite.fires) if row["state"] == "published"}
    assert name in fired
    assert any(other.startswith("another@") for other in fired)
    assert [row["routing_key"] for row in await rows(database, suite.outbox) if row["message_id"] == name] == [
        "analytics.quick_stats",
        "cleanup.media",
    ]


async def test_fire_that_the_database_refuses_is_recorded_and_does_not_stop_others(
    database: Database, log_lines: list[dict[str, Any]]
):
    refused, other = entry("refused", cron="0 * * * *", job="cleanup.tokens"), entry("other", cron="0 * * * *")
    for one in (refused, other):
        await last_ticker_stopped(database, one, timedelta(hours=1))
    async with database.begin() as connection:
        await connection.execute(sa.text("ALTER TABLE outbox ADD CHECK (routing_key <> 'cleanup.tokens')"))
    ticker = Ticker(database, schedule(refused, other))
    await ticker.begin()

    await ticker.tick()

    found = {row["entry"]: row for row in await rows(database, suite.fires) if row["state"] != "introduced"}
    assert found["other"]["state"] == "published"
    assert found["refused"]["state"] == "missed"
    assert found["refused"]["reason"].startswith("the database refuses its message: CheckViolationError: ")
    assert [line["entry"] for line in log_lines if line["event"] == "schedule.fire_missed"] == ["refused"]


async def test_fire_whose_message_is_held_up_by_a_lock_is_not_missed(database: Database):
    hourly = entry(cron="0 * * * *", catch_up="latest")
    await last_ticker_stopped(database, hourly, timedelta(hours=1))
    limited = Database(f"{database.url}?options=-c%20statement_timeout%3D200ms")
    ticker = Ticker(limited, schedule(hourly))
    await ticker.begin()

    async with database.begin() as migration:
        await migration.execute(sa.text("LOCK TABLE outbox"))
        with pytest.raises(DBAPIError, match="statement timeout"):
            await ticker.tick()
    await ticker.tick()

    assert await states(database) == ["introduced", "published"]
    await limited.close()


async def test_fires_in_the_future_do_not_hide_what_was_missed(database: Database, log_lines: list[dict[str, Any]]):
    hourly = entry(cron="0 * * * *", catch_up="all", grace="1d")
    await last_ticker_stopped(database, hourly, timedelta(hours=3))
    future = await last_ticker_stopped(database, hourly, -timedelta(days=400))

    ticker = Ticker(database, schedule(hourly))
    await ticker.begin()
    await ticker.tick()

    assert await states(database) == ["introduced", "published", "published", "published", "introduced"]
    (warned,) = [line for line in log_lines if line["event"] == "schedule.fires_in_future"]
    assert (warned["fires"], warned["newest"]) == (1, future.isoformat())
    assert "DELETE FROM fires WHERE due_at > now()" in warned["remedy"]


async def test_entry_that_was_registered_in_the_future_is_registered_now(database: Database):
    hourly = entry(cron="0 * * * *")
    await last_ticker_stopped(database, hourly, -timedelta(days=400))

    await Ticker(database, schedule(hourly)).begin()

    assert await states(database) == ["introduced", "introduced"]


async def test_clock_that_jumps_ahead_and_back_neither_loses_nor_repeats_a_fire(
    database: Database, log_lines: list[dict[str, Any]]
):
    hourly, noon = entry(cron="0 * * * *", catch_up="all", grace="7d"), datetime(2026, 6, 1, 12, tzinfo=UTC)
    ticker = Ticker(database, schedule(hourly))
    await set_clock(database, noon - timedelta(minutes=30))
    await ticker.begin()

    for moment in (
        noon + timedelta(hours=3, minutes=30),  # ahead
        noon - timedelta(minutes=20),  # back
        noon + timedelta(minutes=30),  # the first of those hours has come
        noon + timedelta(hours=4, minutes=30),  # all of them, and one more
        noon - timedelta(minutes=10),
    ):
        await set_clock(database, moment)
        await ticker.tick()

    fired = [row["due_at"] for row in await rows(database, suite.fires) if row["state"] == "published"]
    assert fired == [noon + timedelta(hours=n) for n in range(5)]
    assert len(await rows(database, suite.outbox)) == 5
    assert [line["seconds"] for line in log_lines if line["event"] == "schedule.clock_set_back"] == [13800, 16800]


async def test_fires_between_a_jump_ahead_and_the_way_back_are_not_lost(database: Database):
    hourly, noon = entry(cron="0 * * * *", catch_up="all", grace="1h"), datetime(2026, 6, 1, 12, tzinfo=UTC)
    ticker = Ticker(database, schedule(hourly))
    await set_clock(database, noon - timedelta(minutes=1))
    await ticker.begin()

    for moment in (noon + timedelta(days=400), noon + timedelta(minutes=1)):
        await set_clock(database, moment)
        await ticker.tick()

    assert f"an-entry@{noon:%Y%m%dT%H%M%SZ}" in {row["message_id"] for row in await rows(database, suite.outbox)}


async def test_message_of_a_clock_that_was_ahead_is_published_now(database: Database):
    await ask(database, 2)
    async with database.begin() as connection:
        await connection.execute(
            sa.text(
                "UPDATE outbox SET available_at = now() + interval '400 days', created_at = CASE id % 2 "
                "WHEN 0 THEN now() + interval '400 days' ELSE created_at END, attempts = id % 2"
            )
        )
        # As of a Celery task with an `eta`.
        await connection.execute(
            sa.text(
                "INSERT INTO outbox (message_id, exchange, routing_key, payload, available_at) "
                "VALUES ('later', 'ticks', 'cleanup.media', '{}', now() + interval '1 year')"
            )
        )

    await Ticker(database, schedule()).begin()

    async with database.begin() as connection:
        claimed = await outbox.claim(connection, size=9)
    assert [row.message_id for row in claimed] == ["ticks-cleanup.media-0", "ticks-cleanup.media-1"]


async def test_fire_is_consumed_within_a_second_of_its_due_time(
    database: Database, relay: None, consume: Consume, runs: Runs
):
    async with consume():
        ticking = asyncio.create_task(Ticker(database, schedule()).run())
        row = await eventually(lambda: newest_over(runs))
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)

    assert (row["job"], row["entry"], row["trigger"], row["status"]) == (
        "cleanup.media",
        "an-entry",
        "schedule",
        "succeeded",
    )
    assert timedelta(0) <= row["started_at"] - row["due_at"] < timedelta(seconds=1)


async def newest_over(runs: Runs) -> dict[str, Any] | None:
    found = [row for row in await runs.newest() if row["status"] != "running"]
    return found[0] if found else None


async def ask(database: Database, count: int, *, exchange: str = "ticks", routing_key: str = "cleanup.media") -> None:
    async with database.begin() as connection:
        for number in range(count):
            name = f"{exchange}-{routing_key}-{number}"
            envelope = Envelope(message_id=name, correlation_id=name, exchange=exchange, routing_key=routing_key)
            table, values = outbox.of(envelope, {"dry_run": True})
            await connection.execute(sa.insert(table), values)


async def waiting(publisher: Publisher, queue: str = "cleanup.media") -> int:
    found = await queue_info(publisher.connection, queue)
    assert found is not None
    return found[0]


async def test_relay_publishes_committed_rows_and_marks_them(database: Database, publisher: Publisher):
    await ask(database, 2 * BATCH + 5)
    relay = Relay(database, publisher)

    assert [await relay.send_batch() for _ in range(4)] == [BATCH, BATCH, 5, 0]

    assert await waiting(publisher) == 2 * BATCH + 5
    assert all(row["sent_at"] and row["attempts"] == 1 for row in await rows(database, suite.outbox))


async def test_concurrent_relays_publish_each_row_once(database: Database, publisher: Publisher):
    await ask(database, 500)

    await asyncio.gather(*(Relay(database, publisher).send_batch() for _ in range(5)))

    assert await waiting(publisher) == 500


async def test_relay_takes_rows_that_no_other_has_taken_and_does_not_wait_for_those(database: Database):
    await ask(database, 4)

    async with database.begin() as first, database.begin() as second:
        taken = await outbox.claim(first, size=3)
        others = await asyncio.wait_for(outbox.claim(second, size=10), 10)

    assert (len(taken), len(others)) == (3, 1)
    assert others[0].id not in {row.id for row in taken}


async def test_commit_wakes_the_relay_at_once(database: Database, relay: None, publisher: Publisher):
    await ask(database, 1, routing_key="cleanup.tokens")  # by now it listens
    await eventually(lambda: sent(database, 1))
    began = time.monotonic()

    await ask(database, 1)

    await eventually(lambda: sent(database, 2))
    assert time.monotonic() - began < 4  # it polls only every five seconds


async def sent(database: Database, count: int) -> bool:
    return len([row for row in await rows(database, suite.outbox) if row["sent_at"]]) == count


async def test_unroutable_row_is_kept_and_does_not_block_others(
    database: Database, publisher: Publisher, log_lines: list[dict[str, Any]]
):
    await ask(database, 1, routing_key="no.such.job")
    await ask(database, 1, exchange="no_such_exchange")
    await ask(database, 2)

    await Relay(database, publisher).send_batch()

    found = {row["message_id"]: row for row in await rows(database, suite.outbox)}
    stuck = found["ticks-no.such.job-0"]
    assert stuck["sent_at"] is None
    assert stuck["attempts"] == 1
    assert stuck["last_error"] == 'no queue is bound for "no.such.job" on exchange "ticks"'
    assert timedelta(0) < stuck["available_at"] - stuck["created_at"] < timedelta(seconds=5)
    assert found["no_such_exchange-cleanup.media-0"]["sent_at"] is None
    assert found["no_such_exchange-cleanup.media-0"]["last_error"] == 'exchange "no_such_exchange" does not exist'
    logged = {line["message_id"] for line in log_lines if line["event"] == "outbox.publish_failed"}
    assert logged == {"ticks-no.such.job-0", "no_such_exchange-cleanup.media-0"}
    assert await waiting(publisher) == 2


async def test_refused_row_is_retried_with_growing_delays_up_to_a_minute(database: Database):
    attempts = (0, 1, 2, 5, 10, 1_000_000)
    async with database.begin() as connection:
        for number in attempts:
            origin = Envelope(message_id=f"{number}", correlation_id="", exchange="ticks", routing_key="no.such.job")
            table, values = outbox.of(origin, {})
            await connection.execute(sa.insert(table).values(values | {"attempts": number}))
        await outbox.retry_later(
            connection, {row.id: "no queue is bound\x00" for row in await outbox.claim(connection, size=9)}
        )

    delayed = await rows(database, suite.outbox)
    waits = [row["available_at"] - delayed[0]["available_at"] for row in delayed]
    assert [round(wait.total_seconds(), 1) for wait in waits] == [0, 0.5, 1.5, 15.5, 59.5, 59.5]
    assert [(row["attempts"], row["last_error"]) for row in delayed] == [
        (number + 1, r"no queue is bound\x00") for number in attempts
    ]


async def test_row_that_cannot_be_serialised_does_not_block_others(database: Database, publisher: Publisher):
    await ask(database, 1, routing_key="k" * 256)
    await ask(database, 2)

    await Relay(database, publisher).send_batch()

    stuck, *others = await rows(database, suite.outbox)
    assert stuck["sent_at"] is None
    assert stuck["last_error"].endswith("cannot be sent: Routing key too long (max 255 bytes)")
    assert all(row["sent_at"] for row in others)


async def test_fact_without_subscriber_is_published(database: Database, publisher: Publisher):
    await ask(database, 1, exchange="facts", routing_key="rates.updated")

    await Relay(database, publisher).send_batch()

    assert await sent(database, 1)


async def test_route_check_counts_consumers(publisher: Publisher, consume: Consume):
    entries = (entry(),)

    (alone,) = await route_check.check_routes(publisher.connection, entries)
    async with consume():
        (consumed,) = await route_check.check_routes(publisher.connection, entries)

    assert (alone.queue, alone.consumers) == ("cleanup.media", 0)
    assert alone.problem == 'queue "cleanup.media" has no consumer; run: pocketwatch consume'
    assert (consumed.consumers, consumed.problem) == (1, None)


@pytest.mark.parametrize("due", [datetime(2026, 1, 1, tzinfo=UTC)])
async def test_fire_and_message_are_recorded_atomically(database: Database, due: datetime):
    envelope = Envelope(message_id="an-id", correlation_id="an-id", exchange="ticks", routing_key="cleanup.media")
    fire = Fire(entry="an-entry", due_at=due, timetable="x", envelope=envelope, payload={})

    with pytest.raises(RuntimeError):  # noqa: PT012 - the block is the transaction that dies
        async with database.begin() as connection:
            await fires.record(connection, [fire])
            raise RuntimeError("crash before the commit")
    assert await rows(database, suite.fires) == []
    assert await rows(database, suite.outbox) == []

    async with database.begin() as connection:
        assert await fires.record(connection, [fire]) == [fire]
        assert await fires.record(connection, [fire]) == []
