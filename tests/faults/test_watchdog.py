"""Something dies or fails, and the watchdog says so: one incident, one email, and an end when it works again."""

import asyncio
import re
from urllib.parse import quote

from pocketwatch.broker.publisher import Publisher
from publishers import trigger
from schemas.ticks import UpdateRates
from tests.fixtures.banks import Banks
from tests.fixtures.people import People
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Deliver, Program
from tests.fixtures.watched import MakeWatchdog, Watched
from tests.support.waiting import eventually

LOST = ("zombie_consumer", "unhealthy")
NOT_CONSUMING = (*LOST, "no_consumer")


async def test_killed_publisher_is_one_incident_and_one_email_until_another_runs(
    pocketwatch: Program, publisher: Publisher, make_watchdog: MakeWatchdog, watched: Watched, people: People
):
    people.manager("olena@example.com")
    watchdog = make_watchdog("no_publisher", "late", "stale_outbox", "missed", "unhealthy")
    killed = pocketwatch.start("publish")
    await _recorded(watched, killed.popen.pid)
    await watchdog.look()
    assert watched.open() == {}

    killed.kill()
    watched.execute("UPDATE processes SET heartbeat_at = heartbeat_at - interval '30 s'")  # so much later
    watched.execute("UPDATE schedule_entries SET next_due_at = now() - interval '61 s' WHERE enabled")
    for _ in range(3):
        await watchdog.look()
    assert list(watched.open()) == [("no_publisher", "publishers")]
    another = pocketwatch.start("publish")
    await _recorded(watched, another.popen.pid)
    for _ in range(2):
        await watchdog.look()

    assert watched.open() == {}
    assert len(watched.outgoing("mail.requested")) == 1
    assert len(watched.outgoing("incident.recovered")) == 1


async def _recorded(watched: Watched, pid: int) -> None:
    """Wait until a process has started, by its row."""

    async def look() -> bool:
        return bool(watched.rows("SELECT 1 FROM processes WHERE pid = %(pid)s AND healthy", pid=pid))

    await eventually(look)


async def test_killed_watchdog_is_replaced(pocketwatch: Program, publisher: Publisher, watched: Watched):
    both = {each.popen.pid: each for each in (pocketwatch.start("consume", group) for group in ("rates", "cleanup"))}
    first = await eventually(lambda: _process(watched))

    both.pop(first).kill()

    async def other_looks() -> bool:
        return await _process(watched) in both and bool(
            watched.rows("SELECT 1 FROM watchdog_lease WHERE looked_at > held_since")
        )

    await eventually(other_looks, within=20)


async def _process(watched: Watched) -> int:
    """Return the process id of the one that looks; 0 for none."""
    rows = watched.rows("SELECT process FROM watchdog_lease WHERE looked_at IS NOT NULL AND expires_at > now()")
    return int(rows[0]["process"].rpartition(":")[2]) if rows else 0


async def test_cancelled_consumer_is_found(
    pocketwatch: Program,
    publisher: Publisher,
    servers: Servers,
    vhost: str,
    make_watchdog: MakeWatchdog,
    watched: Watched,
):
    consumer = pocketwatch.start("consume", "rates")
    await _recorded(watched, consumer.popen.pid)
    watchdog = make_watchdog(*LOST)
    for _ in range(3):
        await watchdog.look()
    assert watched.open(*LOST) == {}

    with servers.management as api:
        api.delete(f"/queues/{quote(vhost, safe='')}/rates.update").raise_for_status()
    for _ in range(3):
        await watchdog.look()

    ((key, detail),) = watched.open(*LOST).items()
    assert key == ("zombie_consumer", "rates")
    assert detail == "consumers: rates.update has 0 on the broker, but its processes report 1"


async def test_process_that_finishes_its_run_while_it_stops_is_no_zombie(
    pocketwatch: Program, publisher: Publisher, make_watchdog: MakeWatchdog, watched: Watched
):
    """The broker has its consumer until the run has ended: a single active consumer keeps others from the job."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await answer.wait()
        writer.close()

    async with await asyncio.start_server(answer_late, "127.0.0.1", 0) as bank:
        url = f"http://127.0.0.1:{bank.sockets[0].getsockname()[1]}/"
        consumer = pocketwatch.start(
            "consume", "rates", POCKETWATCH_NBU_URL=url, POCKETWATCH_PRIVATBANK_URL=url, POCKETWATCH_GRACE="2m"
        )
        await _recorded(watched, consumer.popen.pid)
        await trigger.publish(publisher, UpdateRates())
        await asyncio.wait_for(asked.wait(), 40)
        consumer.popen.terminate()
        await eventually(lambda: _has_problem(watched, "is stopping"))
        watchdog = make_watchdog(*NOT_CONSUMING)
        for _ in range(4):
            await watchdog.look()
        (shown,) = pocketwatch.json("processes")
        answer.set()
        code = await asyncio.to_thread(consumer.popen.wait, 30)

    assert code == 0
    assert [row for row in watched.incidents() if row["kind"] in NOT_CONSUMING] == []
    assert (shown["state"], shown["problem"]) == ("stopping", "is stopping")
    assert [row["state"] for row in pocketwatch.json("processes")] == ["stopped"]


async def test_process_that_does_not_consume_yet_is_no_zombie(
    pocketwatch: Program, publisher: Publisher, make_watchdog: MakeWatchdog, watched: Watched
):
    waiting = pocketwatch.start("consume", "rates", RABBITMQ_URL="amqp://guest:guest@127.0.0.1:9/")
    await eventually(lambda: _has_problem(watched, "is starting"))
    watchdog = make_watchdog(*NOT_CONSUMING)
    for _ in range(4):
        await watchdog.look()
    (shown,) = pocketwatch.json("processes")
    waiting.kill()

    assert [row for row in watched.incidents() if row["kind"] in NOT_CONSUMING] == []
    assert (shown["state"], shown["groups"], shown["queues"]) == ("starting", ["rates"], [])


async def _has_problem(watched: Watched, problem: str) -> bool:
    return bool(watched.rows("SELECT 1 FROM processes WHERE problem = %(problem)s", problem=problem))


async def test_job_that_fails_again_and_again_is_found(
    banks: Banks, deliver: Deliver, make_watchdog: MakeWatchdog, watched: Watched
):
    watchdog = make_watchdog("failing")
    for bank in (banks.nbu, banks.privatbank):
        bank.says(b"no JSON")
    for _ in range(3):
        await watchdog.look()
        assert watched.open() == {}
        assert (await deliver(UpdateRates()))["status"] == "failed"

    await watchdog.look()

    detail = watched.open()["failing", "rates.update"]
    assert re.match(r"failed \d times in a row, last: NBU: ", detail)
    assert " to be retried, the next at " in detail
