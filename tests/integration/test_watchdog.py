"""The watchdog: each problem is one incident, however often it is found, and is over when it is gone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import aio_pika
import psycopg
import pytest

from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from pocketwatch.storage import watchdog_lease
from pocketwatch.storage.database import Database
from pocketwatch.watchdog.check import Check, Look, Problem
from pocketwatch.watchdog.queues import QueueReader
from pocketwatch.watchdog.watchdog import Watchdog
from publishers import trigger
from schemas.ticks import CleanMedia, UpdateRates
from tests.fixtures.banks import StoredRates
from tests.fixtures.people import People
from tests.fixtures.servers import Servers
from tests.fixtures.watched import MakeWatchdog, Watched
from tests.support.vhosts import Vhosts

DAY = 86400.0
Found = tuple[str, str, str]  # kind, subject, a part of the detail

EMPTY = """
TRUNCATE incidents, outbox, watchdog_lease, processes, schedule_entries, schedule_pauses, fires, fire_accounts,
  update_logs, moderation_notification_logs, currency_rates, moderation_manager_notification_settings;
DELETE FROM auth_user WHERE is_staff OR is_superuser
"""


@pytest.fixture(scope="module")
def shared_database(servers: Servers, template: str) -> Iterator[str]:
    """One for all of these tests: making one takes longer than most of them."""
    name = f"test_{uuid4().hex[:12]}"
    servers.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield servers.postgresql(name)
    servers.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(shared_database: str) -> str:
    with psycopg.connect(shared_database) as connection:
        connection.execute(EMPTY.encode())
    return shared_database


@pytest.fixture
def vhost(vhosts: Vhosts, request: pytest.FixtureRequest) -> Iterator[str]:
    """A vhost where a test publishes; the others ask no broker."""
    if "publisher" not in request.fixturenames:
        yield "not-made"
        return
    name = vhosts.take(declared=True)
    yield name
    vhosts.give_back(name)


async def test_problem_is_reported_once_and_over_after_two_clean_looks(
    make_watchdog: MakeWatchdog, watched: Watched, log_lines: list[dict[str, Any]]
):
    watched.process("consume", pid=2)
    watched.process("publish", seen=40)
    watchdog = make_watchdog("no_publisher")

    await watchdog.look()
    await watchdog.look()
    (incident,) = watched.incidents()
    assert watchdog.is_urgent
    watched.process("publish", pid=3)
    await watchdog.look()
    assert watched.open()
    await watchdog.look()

    assert watched.open() == {}
    assert not watchdog.is_urgent
    (opened,) = watched.outgoing("incident.opened")
    (recovered,) = watched.outgoing("incident.recovered")
    assert opened == {
        **{name: incident[name] for name in ("kind", "subject", "detail", "remedy")},
        "incident_id": incident["id"],
        "opened_at": opened["opened_at"],
    }
    assert (recovered["incident_id"], recovered["kind"]) == (incident["id"], "no_publisher")
    assert recovered["opened_at"] == opened["opened_at"] < recovered["recovered_at"]
    events = [line["event"] for line in log_lines if line["event"].startswith("incident.")]
    assert events == ["incident.opened", "incident.recovered"]


async def test_problem_that_returns_is_a_new_incident(make_watchdog: MakeWatchdog, watched: Watched):
    watchdog = make_watchdog("no_publisher")
    for seen in (40, 0, 40):
        watched.execute("DELETE FROM processes")
        watched.process("publish", seen=seen)
        await watchdog.look()
        await watchdog.look()

    first, second = watched.incidents()
    assert (first["recovered_at"] is None, second["recovered_at"]) == (False, None)
    assert len(watched.outgoing("incident.opened")) == 2


async def test_problem_found_by_two_watchdogs_at_once_is_reported_once(make_watchdog: MakeWatchdog, watched: Watched):
    watched.process("publish", seen=40)
    both = [make_watchdog("no_publisher") for _ in range(4)]

    await asyncio.gather(*(each.look() for each in both))
    watched.process("publish", pid=3)
    for _ in range(2):
        await asyncio.gather(*(each.look() for each in both))

    assert len(watched.incidents()) == 1
    assert (len(watched.outgoing("incident.opened")), len(watched.outgoing("incident.recovered"))) == (1, 1)


async def test_managers_who_want_incidents_and_superusers_get_one_email_each(
    make_watchdog: MakeWatchdog, watched: Watched, people: People
):
    people.manager("all@example.com", locale="en")
    people.manager("own@example.com", override="night@example.com", wants=["Incident"])
    people.manager("same@example.com", override="NIGHT@example.com")
    people.manager("flags@example.com", wants=["flagged"])
    people.manager("off@example.com", email=False)
    people.manager("former@example.com", staff=False)
    root = people.user("root@example.com")
    people.execute("UPDATE auth_user SET is_superuser = true WHERE id = %(id)s", id=root)
    people.user("anyone@example.com")
    watched.process("publish", seen=40)
    watchdog = make_watchdog("no_publisher")

    await watchdog.look()
    await watchdog.look()

    (incident,) = watched.incidents()
    requests = sorted(watched.outgoing("mail.requested"), key=lambda request: request["to"])
    assert [(request["to"], request["locale"]) for request in requests] == [
        ("all@example.com", "en"),
        ("night@example.com", "uk"),
        ("root@example.com", "uk"),
    ]
    assert {request["key"] for request in requests} == {
        f"incident:{incident['id']}:{name}@example.com" for name in ("all", "night", "root")
    }
    assert all(request["letter"]["name"] == "incident" for request in requests)
    assert requests[0]["letter"]["detail"] == incident["detail"]


async def test_incident_is_opened_where_users_cannot_be_read(make_watchdog: MakeWatchdog, watched: Watched):
    watched.execute("ALTER TABLE auth_user RENAME TO users_of_another_site")
    watched.process("publish", seen=40)

    await make_watchdog("no_publisher").look()

    watched.execute("ALTER TABLE users_of_another_site RENAME TO auth_user")
    assert len(watched.outgoing("incident.opened")) == 1
    assert watched.outgoing("mail.requested") == []


async def test_check_that_fails_neither_ends_its_incidents_nor_stops_the_others(
    make_watchdog: MakeWatchdog, watched: Watched, log_lines: list[dict[str, Any]]
):
    working = True

    async def find(look: Look) -> AsyncIterator[Problem]:
        if not working:
            raise ValueError("a bug")
        yield Problem("it", "is broken", "mend it")

    async def other(look: Look) -> AsyncIterator[Problem]:
        yield Problem("that", "too", "mend it, too")

    watchdog = make_watchdog(checks=[Check("one", find), Check("two", other)])
    await watchdog.look()
    working = False
    for _ in range(3):
        await watchdog.look()

    assert set(watched.open()) == {("one", "it"), ("two", "that")}
    assert {line["kind"] for line in log_lines if line["event"] == "watchdog.check_failed"} == {"one"}


async def test_comparison_must_be_confirmed(make_watchdog: MakeWatchdog, watched: Watched):
    found = True

    async def find(look: Look) -> AsyncIterator[Problem]:
        if found:
            yield Problem("it", "is broken", "mend it")

    watchdog = make_watchdog(checks=[Check("one", find, confirmations=2)])
    await watchdog.look()
    found = False
    await watchdog.look()
    found = True
    await watchdog.look()
    assert watched.open() == {}
    await watchdog.look()

    assert set(watched.open()) == {("one", "it")}


async def test_queues_are_left_out_while_the_broker_is_away(
    make_watchdog: MakeWatchdog, watched: Watched, settings: Settings, database: Database, publisher: Publisher
):
    await trigger.publish(publisher, CleanMedia())
    await _until_open(make_watchdog("no_consumer"), watched)
    servers = settings.servers.model_copy(update={"rabbitmq_url": "amqp://127.0.0.1:1/x"})
    away = settings.model_copy(update={"servers": servers})
    checks = [Check("no_consumer", _nothing, asks_broker=True), Check("other", _something)]
    async with QueueReader(away) as queues:
        watchdog = Watchdog(away, database, queues, checks, process="test")
        for _ in range(3):
            await watchdog.look()

    assert set(watched.open()) == {("no_consumer", "cleanup"), ("other", "it")}


async def _nothing(_: Look) -> AsyncIterator[Problem]:
    for problem in ():
        yield problem


async def _something(_: Look) -> AsyncIterator[Problem]:
    yield Problem("it", "is broken", "mend it")


async def _until_open(watchdog: Watchdog, watched: Watched) -> None:
    for _ in range(3):
        await watchdog.look()
    assert watched.open()


async def test_lease_has_one_holder_until_it_expires(database: Database, watched: Watched):
    async def take(process: str, lasts: float = 60) -> bool:
        async with database.begin() as connection:
            return await watchdog_lease.take(connection, process, lasts=timedelta(seconds=lasts))

    assert await take("one")
    assert not await take("two")
    assert await take("one")
    watched.execute("UPDATE watchdog_lease SET expires_at = now()")
    assert await take("two")
    assert not await take("one")
    async with database.begin() as connection:
        await watchdog_lease.release(connection, "one")  # which it no longer holds
    assert not await take("one")
    async with database.begin() as connection:
        await watchdog_lease.release(connection, "two")
    assert await take("one")


async def test_lease_that_was_taken_by_a_clock_that_was_ahead_does_not_last(database: Database, watched: Watched):
    watched.execute("INSERT INTO watchdog_lease (process, expires_at) VALUES ('killed:1', now() + interval '1 day')")

    async with database.begin() as connection:
        assert await watchdog_lease.take(connection, "another:1", lasts=timedelta(seconds=8))


# Each check: what it finds, and what it does not


def stopped_publisher(watched: Watched) -> None:
    watched.process("consume", pid=2)
    watched.process("publish", seen=40, stopped=True)


def never_a_publisher(watched: Watched) -> None:
    watched.process("consume", age=90)


def late_entry(watched: Watched) -> None:
    watched.process("publish")
    watched.entry("nightly", due_in=-70)
    watched.fire("nightly", ago=DAY)


def missed_fire(watched: Watched) -> None:
    watched.entry("nightly")
    watched.fire("nightly", ago=DAY, outcome="succeeded")
    watched.fire("nightly", ago=60, state="missed", reason="no publisher ran", outcome="missed")


def unaccounted_fire(watched: Watched) -> None:
    watched.execute(
        "INSERT INTO fire_accounts (hour, planned, accounted, unaccounted) VALUES "
        "(now() - interval '2 hours', 3, 3, '[]'), "
        """(now() - interval '1 hour', 4, 3, '[["nightly", "2026-11-29T02:00:00+00:00"]]')"""
    )


def refused_schedule(watched: Watched) -> None:
    watched.process(file="own.toml", error='entry "x": cron "y" is wrong')


def publishers_of_two_schedules(watched: Watched) -> None:
    watched.process(pid=1, hash="abcdefghijkl")
    watched.process(pid=2, hash="bcdefghijklm")


def stuck_message(watched: Watched) -> None:
    watched.execute(
        "INSERT INTO outbox (message_id, exchange, routing_key, payload, attempts, last_error, available_at) "
        "VALUES ('stuck', 'ticks', 'no.such', '{}', 7, 'no queue is bound', now() + interval '50 s')"
    )


def unsent_message(watched: Watched) -> None:
    watched.process("publish")
    watched.execute(
        "INSERT INTO outbox (message_id, exchange, routing_key, payload, available_at) "
        "VALUES ('old', 'ticks', 'cleanup.media', '{}', now() - interval '70 s')"
    )


def unhealthy_processes(watched: Watched) -> None:
    for pid in (4, 5):
        watched.process("consume", pid=pid, problem="the broker does not answer")


def abandoned_run(watched: Watched) -> None:
    watched.process("consume", pid=7, seen=120)
    watched.run("cleanup.media", status="running", ago=300, worker="here:7")


def endless_run(watched: Watched) -> None:
    watched.process("consume", pid=7)
    watched.run("cleanup.media", status="running", ago=1300, worker="here:7")


def endless_fire(watched: Watched) -> None:
    watched.entry("nightly")
    watched.fire("nightly", ago=1300)


def failing_job(watched: Watched) -> None:
    watched.run("rates.update", ago=900)
    for attempt, ago in enumerate((600, 500, 400), start=1):
        watched.run("rates.update", status="failed", ago=ago, error="NBU: away", message="x", attempt=attempt)
    watched.execute("UPDATE update_logs SET next_attempt_at = now() + interval '5 min' WHERE attempt = 3")


def dead_job(watched: Watched) -> None:
    watched.run("rates.update", status="dead", error="refused")


def slow_run(watched: Watched) -> None:
    for ago in range(1000, 1040):
        watched.run("cleanup.media", ago=ago, took=2)
    watched.process("consume", pid=7)
    watched.run("cleanup.media", status="running", ago=40, worker="here:7")


def refused_email(watched: Watched) -> None:
    watched.execute(
        "INSERT INTO moderation_notification_logs (method, recipient, state, status, error_message, sent_at, "
        "external_id, key, updated_at) VALUES ('email', 'a@example.com', 'pending', 'pending', "
        "'the mail server refuses us: 535 wrong password', now(), '', 'x', now())"
    )


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        (stopped_publisher, ("no_publisher", "publishers", "none is running; the last one, here:1, stopped at ")),
        (never_a_publisher, ("no_publisher", "publishers", "none has ever run; no job starts, and no message is pub")),
        (late_entry, ("late", "nightly", "UTC, and no publisher has recorded the fire")),
        (missed_fire, ("missed", "nightly", " was missed: no publisher ran")),
        (unaccounted_fire, ("unaccounted", "fires", "1 planned fire has no record, such as nightly at 2026-11-29")),
        (refused_schedule, ("schedule_refused", "own.toml", 'in force: entry "x": cron "y" is wrong')),
        (publishers_of_two_schedules, ("schedules_differ", "schedule", ": here:1 abcdefgh, here:2 bcdefghi")),
        (stuck_message, ("stale_outbox", "outbox", "1 message cannot be published; one error is: no queue is ")),
        (unsent_message, ("stale_outbox", "outbox", "the oldest message has been unsent for 7")),
        (unhealthy_processes, ("unhealthy", "the broker does not answer", "reported by 2 processes, such as here:4")),
        (abandoned_run, ("unfinished", "cleanup.media", "its worker here:7 has died, and no other worker has taken")),
        (endless_run, ("unfinished", "cleanup.media", "UTC, for 22 minutes, on here:7")),
        (endless_fire, ("unfinished", "nightly", "UTC was published, but its run has not ended")),
        (failing_job, ("failing", "rates.update", "failed 3 times in a row, last: NBU: away; 1 message to be ")),
        (dead_job, ("failing", "rates.update", "last: refused; its message is a dead letter")),
        (slow_run, ("slow", "cleanup.media", "a run takes 4")),
        (refused_email, ("mail_refused", "mail server", "1 email waits because the mail server refuses the suite; ")),
        (lambda _: None, ("stale_rates", "rates", "USD: no rate; EUR: no rate")),
    ],
)
async def test_check_finds_its_problem(
    make_watchdog: MakeWatchdog, watched: Watched, prepare: Callable[[Watched], None], expected: Found
):
    kind, subject, words = expected
    prepare(watched)
    watchdog = make_watchdog(kind)

    for _ in range(3):
        await watchdog.look()

    assert list(watched.open()) == [(kind, subject)]
    assert words in watched.open()[kind, subject]


def starting_suite(watched: Watched) -> None:
    watched.process("consume", age=30)


def replaced_publisher(watched: Watched) -> None:
    watched.process("publish", pid=1, seen=4000, stopped=True)
    watched.process("run", pid=2)


def late_entry_without_publisher(watched: Watched) -> None:
    """One incident says that there is no publisher."""
    watched.process("publish", seen=100)
    watched.entry("nightly", due_in=-70)
    watched.execute(
        "INSERT INTO outbox (message_id, exchange, routing_key, payload, available_at) "
        "VALUES ('old', 'ticks', 'cleanup.media', '{}', now() - interval '70 s')"
    )
    watched.execute("INSERT INTO incidents (kind, subject, detail, remedy) VALUES ('x', 'x', 'x', 'x')")


def undecided_but_recorded(watched: Watched) -> None:
    watched.process("publish")
    watched.entry("nightly", due_in=-70)
    watched.fire("nightly", ago=70)
    watched.entry("disabled", due_in=-70, enabled=False)
    for name, resumed in (("paused", "NULL"), ("resumed", "now()")):
        watched.entry(name, due_in=-700)
        watched.execute(
            "INSERT INTO schedule_pauses (entry, author, reason, paused_at, resumed_at) "
            f"VALUES ('{name}', 'olena', 'x', now() - interval '1 hour', {resumed})"
        )


def missed_before_or_on_purpose(watched: Watched) -> None:
    watched.entry("nightly")
    watched.fire("nightly", ago=600, state="missed", reason="no publisher ran", outcome="missed")
    watched.fire("nightly", ago=60, outcome="succeeded")
    watched.entry("paused")
    watched.fire("paused", ago=60, state="missed", reason="paused by olena: x", outcome="missed")
    watched.fire("removed", ago=60, state="missed", reason="no publisher ran", outcome="missed")


def retried_and_continued_fires(watched: Watched) -> None:
    watched.entry("nightly")
    watched.fire("nightly", ago=1300)
    watched.run(status="failed", ago=1290, message="nightly@1300", again_in=600)
    watched.entry("long")
    watched.fire("long", ago=1400)
    watched.run(status="succeeded", ago=1390, message="long@1400")
    watched.process("consume", pid=7)
    watched.run(status="running", ago=20, message="long@1400.next", worker="here:7")
    watched.execute("UPDATE update_logs SET correlation_id = 'long@1400' WHERE message_id = 'long@1400.next'")


def two_failures(watched: Watched) -> None:
    watched.run(status="failed", ago=900)
    watched.run(ago=800)
    watched.run(status="failed", ago=700)
    watched.run(status="failed", ago=600)


def usual_runs(watched: Watched) -> None:
    for ago in range(1000, 1040):
        watched.run("cleanup.media", ago=ago, took=2)
    watched.run("cleanup.media", ago=900, took=30)


@pytest.mark.parametrize(
    ("prepare", "kinds"),
    [
        (starting_suite, ["no_publisher"]),
        (replaced_publisher, ["no_publisher"]),
        (late_entry_without_publisher, ["late", "stale_outbox"]),
        (undecided_but_recorded, ["late"]),
        (missed_before_or_on_purpose, ["missed"]),
        (retried_and_continued_fires, ["unfinished"]),
        (two_failures, ["failing"]),
        (usual_runs, ["slow"]),
    ],
)
async def test_check_finds_nothing_where_all_is_well(
    make_watchdog: MakeWatchdog, watched: Watched, prepare: Callable[[Watched], None], kinds: list[str]
):
    prepare(watched)
    watchdog = make_watchdog(*kinds)

    for _ in range(3):
        await watchdog.look()

    assert [key for key in watched.open() if key[0] in kinds] == []


async def test_queues_without_consumers_and_dead_letters_are_found(
    make_watchdog: MakeWatchdog, watched: Watched, publisher: Publisher
):
    await trigger.publish(publisher, CleanMedia())
    await trigger.publish(publisher, UpdateRates())
    watchdog = make_watchdog("no_consumer", "dead_letters", "zombie_consumer")
    for _ in range(3):
        await watchdog.look()

    await publisher.publish(aio_pika.Message(b"{}"), exchange="dead", routing_key="mail.digest")
    await watchdog.look()

    assert watched.open() == {
        ("dead_letters", "mail.digest"): "1 dead letter",
        ("no_consumer", "cleanup"): "messages wait without a consumer: cleanup.media 1",
        ("no_consumer", "rates"): "messages wait without a consumer: rates.update 1",
    }


async def test_consumers_that_the_broker_does_not_have_are_found(
    make_watchdog: MakeWatchdog, watched: Watched, publisher: Publisher
):
    for pid in (4, 5):
        watched.process("consume", pid=pid, queues=["rates.update", "rates.cleanup"])
    watched.process("consume", pid=6, seen=60, queues=["cleanup.media"])
    watched.process("consume", pid=7, problem="is stopping", queues=["rates.update", "rates.cleanup"])
    watchdog = make_watchdog("zombie_consumer")
    for _ in range(3):
        await watchdog.look()

    counts = [
        f"{queue} has 0 on the broker, but its processes report 2 to 3" for queue in ("rates.update", "rates.cleanup")
    ]
    ((key, detail),) = watched.open().items()
    assert key == ("zombie_consumer", "rates")
    assert all(count in detail for count in counts)


async def test_fresh_rates_are_no_problem(make_watchdog: MakeWatchdog, watched: Watched, rates: StoredRates):
    for currency in ("USD", "EUR", "PLN"):
        rates.add(currency)
    rates.add("GBP", days_old=9)

    await make_watchdog("stale_rates").look()

    assert watched.open() == {("stale_rates", "rates"): watched.open()["stale_rates", "rates"]}
    assert watched.open()["stale_rates", "rates"].startswith("GBP: the newest rate is 8 d ")
