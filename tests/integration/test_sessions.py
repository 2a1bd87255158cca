"""cleanup.sessions, through the broker, on a real Redis with keys as the adapters of Auth.js write them."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from consumers.cleanup.sessions import redis_store
from consumers.cleanup.sessions import sessions as job
from consumers.cleanup.sessions.keys import ExpiryRule, pointer
from consumers.cleanup.sessions.redis_store import (
    HAS_TTL,
    PER_SCRIPT,
    VANISHED,
    SessionStore,
)
from pocketwatch import settings as reading
from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.storage.redis import connected
from pocketwatch.worker import clock_skew, context
from pocketwatch.worker.context import JobContext
from publishers import trigger
from schemas.ticks import CleanSessions
from tests.fixtures.sessions import DATABASE, Sessions, iso
from tests.fixtures.suite import Consume, Deliver, Program, Runs
from tests.fixtures.tokens import days_ago
from tests.support.job_contexts import job_context
from tests.support.waiting import eventually

JOB = "cleanup.sessions"
NOTHING = dict.fromkeys(job.STATISTICS, 0)
DEFAULTS = reading.Sessions().key_patterns


@pytest.fixture
def environment(environment: dict[str, str], redis_url: str) -> dict[str, str]:
    return environment | {"REDIS_URL": redis_url}


def totals(row: dict[str, Any]) -> dict[str, int]:
    """What is not 0 of a run's figures, without those by pattern."""
    return {name: number for name, number in row["statistics"].items() if name != "patterns" and number}


def fill(sessions: Sessions) -> None:
    """Every layout: each with a session of long ago, one within the retention, and a live one."""
    ages = {"old": days_ago(40), "recent": days_ago(10), "live": days_ago(-10)}
    for name, moment in ages.items():
        sessions.add(f"user:session:{name}", expires=moment)
        sessions.redis.set(f"user:session:by-user-id:{name}", f"user:session:{name}")
        sessions.add(f"user:token:{name}@example.org", expires=moment, token="x")
        sessions.add(f"session:{name}", expires=moment)
        sessions.redis.hset(f"session:hash-{name}", mapping={"sessionToken": name, "expires": iso(moment)})
        sessions.add(f"verification-token:{name}@example.org:x", expires=moment)
    sessions.redis.set("user:session:by-user-id:logged-out", "user:session:deleted-by-its-owner")


async def test_expired_keys_of_every_layout_are_deleted_and_others_get_a_ttl(deliver: Deliver, sessions: Sessions):
    fill(sessions)
    before = sessions.keys()

    row = await deliver(CleanSessions())

    assert row["status"] == "succeeded"
    assert before - sessions.keys() == {
        b"user:session:old",
        b"user:session:by-user-id:old",
        b"user:session:by-user-id:logged-out",
        b"user:token:old@example.org",
        b"session:old",
        b"session:hash-old",
        b"verification-token:old@example.org:x",
    }
    assert totals(row) == {
        "scanned": 19,
        "no_ttl": 19,
        "expired": 5,
        "deleted": 5,
        "pointers_deleted": 2,
        "ttl_set": 8,
    }
    assert row["statistics"]["patterns"] == {
        "user:session:*": NOTHING
        | {"scanned": 7, "no_ttl": 7, "expired": 1, "deleted": 1, "pointers_deleted": 2, "ttl_set": 2},
        "user:token:*": NOTHING | {"scanned": 3, "no_ttl": 3, "expired": 1, "deleted": 1, "ttl_set": 2},
        "session:*": NOTHING | {"scanned": 6, "no_ttl": 6, "expired": 2, "deleted": 2, "ttl_set": 2},
        "verification-token:*": NOTHING | {"scanned": 3, "no_ttl": 3, "expired": 1, "deleted": 1, "ttl_set": 2},
    }


async def test_kept_session_expires_after_its_retention(deliver: Deliver, sessions: Sessions):
    moment = days_ago(-10).replace(microsecond=345_000)
    sessions.add("user:session:t", expires=moment)

    await deliver(CleanSessions(retention_days=7))

    assert sessions.last_moment("user:session:t") == moment + timedelta(days=7)


@pytest.mark.parametrize("is_hash", [False, True])
async def test_session_renewed_after_a_run_does_not_expire_early(
    deliver: Deliver, sessions: Sessions, *, is_hash: bool
):
    def write(expires: datetime) -> None:
        if is_hash:
            sessions.redis.hset("session:t", mapping={"sessionToken": "t", "expires": iso(expires)})
        else:
            sessions.add("session:t", expires=expires)

    write(days_ago(-1))
    await deliver(CleanSessions(retention_days=7))
    write(days_ago(-300))
    await deliver(CleanSessions(retention_days=7))

    last = sessions.last_moment("session:t")
    assert last is None or last > days_ago(-300)


async def test_second_run_finds_nothing(deliver: Deliver, sessions: Sessions):
    fill(sessions)
    await deliver(CleanSessions())
    before = sessions.everything()

    row = await deliver(CleanSessions())

    assert sessions.everything() == before
    assert totals(row) == {"scanned": 12, "with_ttl": 8, "no_ttl": 4}


async def test_dry_run_counts_the_same_and_changes_nothing(deliver: Deliver, sessions: Sessions):
    fill(sessions)
    sessions.redis.set("session:odd", "{")
    before = sessions.everything()

    dry = await deliver(CleanSessions(dry_run=True))
    assert sessions.everything() == before
    real = await deliver(CleanSessions())

    assert dry["statistics"] == real["statistics"]
    assert (dry["dry_run"], real["dry_run"]) == (True, False)
    assert dry["statistics"]["pointers_deleted"] == 2


@pytest.mark.parametrize(("seconds", "deleted"), [(-1, True), (1, False)])
@pytest.mark.parametrize("days", [1, 30])
async def test_expiry_is_decided_to_the_second(
    database: Database, settings: Settings, sessions: Sessions, seconds, deleted, days
):
    tick = CleanSessions(retention_days=days, dry_run=True)
    one = job_context(JOB, database, settings, message=tick)
    expires = one.now - timedelta(days=days) + timedelta(seconds=seconds)
    sessions.add("session:t", expires=expires)

    await job.clean_sessions(tick, one)

    assert (one.statistics["deleted"], one.statistics["ttl_set"]) == ((1, 0) if deleted else (0, 1))


async def test_keys_with_a_ttl_are_left_to_redis(deliver: Deliver, sessions: Sessions):
    sessions.add("session:t", expires=days_ago(400))
    sessions.redis.expire("session:t", 1000)
    sessions.redis.set("user:session:by-user-id:1", "user:session:gone", ex=1000)
    before = sessions.everything()

    row = await deliver(CleanSessions())

    assert sessions.everything() == before
    assert totals(row) == {"scanned": 2, "with_ttl": 2}


async def test_users_and_accounts_are_not_touched(deliver: Deliver, sessions: Sessions):
    for key in (
        "user:1",
        "user:email:a@example.org",
        "user:account:google:1",
        "user:account:by-user-id:1",
        "account:google:1",
        "account-ids:by-user-id:1",
        "authenticator:id:1",
        "authenticator:by-user-id:1",
        "car_sales_sessions:1:x",
        "celery-task-meta-1",
    ):
        sessions.add(key, expires=days_ago(400))
    sessions.redis.set("user:account:by-user-id:2", "user:account:google:gone")
    sessions.redis.set("user:session:by-user-id:1", "user:session:gone")
    before = sessions.everything()

    row = await deliver(CleanSessions())

    assert sessions.everything() == {key: value for key, value in before.items() if key != b"user:session:by-user-id:1"}
    assert totals(row) == {"scanned": 1, "no_ttl": 1, "pointers_deleted": 1}


async def test_too_wide_pattern_touches_no_user(database: Database, settings: Settings, sessions: Sessions):
    for key in ("user:1", "user:email:a@example.org", "user:account:by-user-id:1", "user:session:t"):
        sessions.add(key, expires=days_ago(400))
    foolish = reading.Sessions.model_construct(key_patterns=("user:*", "*"))
    one = job_context(JOB, database, settings.model_copy(update={"sessions": foolish}))

    await job.clean_sessions(CleanSessions(), one)

    assert sessions.keys() == {b"user:1", b"user:email:a@example.org", b"user:account:by-user-id:1"}
    assert one.statistics["patterns"]["user:*"]["protected"] == 3
    assert one.statistics["patterns"]["*"] == NOTHING


async def test_unreadable_values_are_kept_and_counted(deliver: Deliver, sessions: Sessions):
    texts = [
        b"",
        b"{",
        b"null",
        b"\xff\xfe\x00",
        b"{}",
        b"x" * 20_000,
        json.dumps({"expires": iso(days_ago(400)), "padding": "x" * 20_000}).encode(),
    ]
    for number, text in enumerate(texts):
        sessions.redis.set(f"session:text-{number}", text)
    moments = [1_500_000_000, 1_500_000_000_000, None, True, "2020-01-01", "2020-01-01T00:00:00", "1500000000"]
    for number, expires in enumerate(moments):
        sessions.add(f"session:moment-{number}", expires=expires)
    sessions.redis.hset("session:hash", "sessionToken", "t")
    sessions.redis.hset("session:hash-of-numbers", "expires", 1_500_000_000)
    sessions.redis.hset("session:hash-too-long", "expires", iso(days_ago(400)) + " " * 100)
    sessions.redis.rpush("session:list", iso(days_ago(400)))
    sessions.redis.sadd("session:set", "a")
    sessions.redis.zadd("session:zset", {"a": 1})
    sessions.redis.xadd("session:stream", {"expires": iso(days_ago(400))})
    sessions.redis.set("user:session:by-user-id:odd", "no key of a session")
    before = sessions.everything()

    row = await deliver(CleanSessions())

    assert row["status"] == "succeeded"
    assert sessions.everything() == before
    assert totals(row) == {"scanned": len(before), "no_ttl": len(before), "unreadable": len(before)}


async def test_keys_may_be_any_bytes(deliver: Deliver, sessions: Sessions):
    odd = [b"session:\xff\x00\xfe", b"session:a b\r\n*3", "session:ключ".encode(), b"session:[*?]\\"]
    for key in odd:
        sessions.add(key, expires=days_ago(40))

    row = await deliver(CleanSessions())

    assert sessions.keys() == set()
    assert totals(row)["deleted"] == len(odd)


async def test_lists_of_session_ids_are_kept(database: Database, settings: Settings, sessions: Sessions):
    sessions.redis.rpush("session-ids:by-user-id:1", "gone", "t")
    sessions.add("session:t", expires=days_ago(40))
    one = job_context(JOB, database, with_patterns(settings, "session:*", "session-ids:*"))

    await job.clean_sessions(CleanSessions(), one)

    assert sessions.keys() == {b"session-ids:by-user-id:1"}
    assert one.statistics["patterns"]["session-ids:*"] == NOTHING | {"scanned": 1, "no_ttl": 1}


async def test_targets_of_pointers_are_found_under_a_prefix(database: Database, settings: Settings, sessions: Sessions):
    for name in ("there", "gone"):
        sessions.redis.set(f"base:user:session:by-user-id:{name}", f"user:session:{name}")
    sessions.add("base:user:session:there", expires=days_ago(-1))
    sessions.add("base:user:1", expires=days_ago(400))
    one = job_context(JOB, database, with_patterns(settings, "base:user:session:*"))

    await job.clean_sessions(CleanSessions(), one)

    kept = {b"base:user:session:by-user-id:there", b"base:user:session:there", b"base:user:1"}
    assert sessions.keys() == kept


async def test_key_matched_by_several_patterns_is_counted_once(
    database: Database, settings: Settings, sessions: Sessions
):
    fill(sessions)
    patterns = ("user:session:by-user-id:*", "user:session:ol*", "user:session:*")
    one = job_context(JOB, database, with_patterns(settings, *patterns))

    await job.clean_sessions(CleanSessions(), one)

    by_pattern = one.statistics["patterns"]
    assert by_pattern["user:session:by-user-id:*"] == NOTHING | {"scanned": 4, "no_ttl": 4, "pointers_deleted": 2}
    assert by_pattern["user:session:ol*"] == NOTHING | {"scanned": 1, "no_ttl": 1, "expired": 1, "deleted": 1}
    assert by_pattern["user:session:*"] == NOTHING | {"scanned": 2, "no_ttl": 2, "ttl_set": 2}


async def test_empty_redis_is_no_work(deliver: Deliver, sessions: Sessions):
    row = await deliver(CleanSessions())

    assert row["status"] == "succeeded"
    assert row["statistics"] == NOTHING | {"patterns": dict.fromkeys(DEFAULTS, NOTHING)}


async def test_many_keys_are_cleaned_page_by_page(deliver: Deliver, sessions: Sessions, monkeypatch):
    monkeypatch.setattr(context, "PROGRESS_INTERVAL", 0.0)
    count = 5 * PER_SCRIPT + 7
    for number in range(count):
        sessions.add(f"user:session:{number}", expires=days_ago(40 if number % 2 else -1))

    row = await deliver(CleanSessions(dry_run=True))
    real = await deliver(CleanSessions())

    assert totals(row) == totals(real)
    assert totals(real)["deleted"] == count // 2
    assert totals(real)["ttl_set"] == count - count // 2
    assert len(sessions.keys()) == count - count // 2
    assert 0.7 < real["progress"] <= 1.0


# ---- Keys that are written meanwhile


@pytest.fixture
async def store(redis_url: str) -> Any:
    async with connected(redis_url) as client, SessionStore(client) as opened:
        yield opened


RULE = ExpiryRule.of(datetime.now(UTC), timedelta(days=30))


async def test_session_renewed_between_read_and_deletion_survives(
    store: SessionStore, sessions: Sessions, client: Redis
):
    keys = [b"session:renewed", b"session:given-a-ttl", b"session:deleted", b"session:now-a-hash", b"session:untouched"]
    for key in keys:
        sessions.add(key, expires=days_ago(40))
    changes = [RULE.change(key, found) for key, found in zip(keys, await store.read(keys), strict=True)]

    await client.set(keys[0], json.dumps({"expires": iso(days_ago(-30))}))
    await client.expire(keys[1], 1000)
    await client.delete(keys[2])
    await client.delete(keys[3])
    await client.hset(keys[3], "expires", iso(days_ago(40)))
    done = await store.change([change for change in changes if change])

    assert done == {"deleted": 1, "ttl_set": 0, "vanished": 1}
    assert sessions.keys() == {keys[0], keys[1], keys[3]}


async def test_hash_renewed_between_read_and_deletion_survives(store: SessionStore, sessions: Sessions, client: Redis):
    sessions.redis.hset("session:t", mapping={"sessionToken": "t", "expires": iso(days_ago(40))})
    (found,) = await store.read([b"session:t"])
    change = RULE.change(b"session:t", found)
    assert change is not None

    await client.hset("session:t", "expires", iso(days_ago(-30)))
    await store.change([change])

    assert sessions.keys() == {b"session:t"}


async def test_key_written_after_the_read_gets_no_ttl(store: SessionStore, sessions: Sessions, client: Redis):
    keys = [b"session:longer", b"session:renewed"]
    for key in keys:
        sessions.add(key, expires=days_ago(10))
    changes = [RULE.change(key, found) for key, found in zip(keys, await store.read(keys), strict=True)]

    await client.expire(keys[0], 10**8)
    await client.set(keys[1], json.dumps({"expires": iso(days_ago(-300))}))
    before = sessions.everything()
    done = await store.change([change for change in changes if change])

    assert done == {"deleted": 0, "ttl_set": 0, "vanished": 0}
    assert sessions.everything() == before


async def test_pointer_is_deleted_only_while_unchanged_and_dangling(
    store: SessionStore, sessions: Sessions, client: Redis
):
    keys = [f"user:session:by-user-id:{name}".encode() for name in ("rewritten", "back", "dangling")]
    for key in keys:
        sessions.redis.set(key, b"user:session:" + key[-4:])
    pointers = [pointer(key, found) for key, found in zip(keys, await store.read(keys), strict=True)]

    await client.set(keys[0], "user:session:of-a-new-login")
    await client.set(b"user:session:" + keys[1][-4:], "{}")
    deleted = await store.unlink_dangling([one for one in pointers if one])

    assert deleted == 1
    assert sessions.keys() == {keys[0], keys[1], b"user:session:" + keys[1][-4:]}


async def test_logins_during_the_run_keep_their_sessions_and_pointers(
    deliver: Deliver, sessions: Sessions, client: Redis
):
    for number in range(1500):
        sessions.add(f"user:session:{number}", expires=days_ago(40))
        sessions.redis.set(f"user:session:by-user-id:{number}", f"user:session:{number}")
    renewed: dict[bytes, bytes] = {}
    over = asyncio.Event()

    async def log_in() -> None:
        for number in range(0, 1500, 2):
            if over.is_set():
                return
            session = f"user:session:{number}".encode()
            renewed[session] = json.dumps({"userId": number, "expires": iso(days_ago(-30))}).encode()
            await client.set(session, renewed[session])
            pointing = f"user:session:by-user-id:{number}".encode()
            renewed[pointing] = session
            await client.set(pointing, session)

    logins = asyncio.create_task(log_in())
    row = await deliver(CleanSessions())
    over.set()
    await logins

    assert row["status"] == "succeeded"
    assert len(renewed) > 100
    lost = [key for key, value in renewed.items() if sessions.redis.get(key) != value]
    assert lost == []
    assert totals(row)["deleted"] > 0


async def test_keys_that_scan_repeats_are_seen_once(
    store: SessionStore, sessions: Sessions, client: Redis, monkeypatch
):
    """Redis repeats a key in about every fourth of these rounds: what `RECENT_PAGES` is for."""
    monkeypatch.setattr(redis_store, "PAGE", 10)
    kept = {f"session:{number}".encode() for number in range(300)}
    filler = [f"filler:{number}" for number in range(3700)]
    for turn in range(40):
        await client.mset({**dict.fromkeys(kept, b"{}"), **dict.fromkeys(filler, b"")})
        seen: list[bytes] = []
        async for page in store.scan("session:*"):
            seen += page.keys
            if page.share > 0.3 + turn / 100 and await client.dbsize() > len(kept):
                await client.unlink(*filler)
                await eventually(lambda: has_shrunk(client))

        assert sorted(seen) == sorted(kept)


async def has_shrunk(client: Redis) -> bool:
    """Its table of 4096 buckets has become one of 512, and all keys are in that."""
    statistics: Any = await client.memory_stats()
    return int(statistics[f"db.{DATABASE}"]["overhead.hashtable.main"]) < 4096 * 8


async def test_keys_added_during_the_run_do_not_disturb(
    consume: Consume, publisher: Publisher, runs: Runs, sessions: Sessions, client: Redis
):
    for number in range(3000):
        sessions.add(f"session:old-{number}", expires=days_ago(40))
    over = asyncio.Event()
    added = 0

    async def add() -> None:
        nonlocal added
        while not over.is_set() and added < 20_000:
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(added, added + 200):
                    pipeline.set(f"session:new-{number}", json.dumps({"expires": iso(days_ago(-30))}))
                await pipeline.execute()
            added += 200
            await asyncio.sleep(0.01)

    adding = asyncio.create_task(add())
    async with consume():
        sent = await trigger.publish(publisher, CleanSessions())
        row = await runs.over(sent.message_id, within=60)
    over.set()
    await adding

    assert totals(row)["deleted"] == 3000
    assert len(sessions.keys()) == added
    assert totals(row)["scanned"] == totals(row)["no_ttl"] <= 3000 + added


async def test_concurrent_runs_share_the_work(database: Database, settings: Settings, sessions: Sessions):
    for number in range(3000):
        sessions.add(f"user:session:{number}", expires=days_ago(40))
        sessions.redis.set(f"user:session:by-user-id:{number}", f"user:session:{number}")
    sessions.add("session:live", expires=days_ago(-1))

    first, second = (job_context(JOB, database, settings) for _ in range(2))
    await asyncio.gather(job.clean_sessions(CleanSessions(), first), job.clean_sessions(CleanSessions(), second))

    assert sessions.keys() == {b"session:live"}
    for name, total in (("deleted", 3000), ("pointers_deleted", 3000), ("ttl_set", 1)):
        assert first.statistics[name] + second.statistics[name] == total


async def test_missing_keys_and_keys_with_a_ttl_are_recognised(store: SessionStore, sessions: Sessions):
    sessions.redis.set("session:t", "x", ex=1000)

    assert await store.read([b"session:t", b"session:gone"]) == [HAS_TTL, VANISHED]


# ---- Time, settings and servers


async def test_run_out_of_time_starts_over_until_everything_is_clean(
    consume: Consume, relay: None, publisher: Publisher, runs: Runs, sessions: Sessions
):
    for number in range(6000):
        sessions.add(f"user:session:{number}", expires=days_ago(40))

    async with consume(time_budget=timedelta(0)):
        first = await trigger.publish(publisher, CleanSessions())

        async def chain() -> list[dict[str, Any]] | None:
            rows = await runs.newest(job="cleanup.sessions")
            over = rows and rows[0]["status"] != "running" and "continued_by" not in rows[0]["statistics"]
            return rows[::-1] if over else None

        rows = await eventually(chain, within=30)

    assert len(rows) > 2
    assert rows[1]["message_id"] == f"{first.message_id}.1"
    assert {row["status"] for row in rows} == {"succeeded"}
    assert sum(row["statistics"]["deleted"] for row in rows) == 6000
    assert sessions.keys() == set()


async def test_run_without_progress_is_partial_and_not_continued(
    consume: Consume, publisher: Publisher, runs: Runs, sessions: Sessions
):
    for number in range(6000):
        sessions.add(f"user:session:{number}", expires=days_ago(40))

    async with consume(time_budget=timedelta(0)):
        sent = await trigger.publish(publisher, CleanSessions(dry_run=True))
        row = await runs.over(sent.message_id)

    assert row["status"] == "partial"
    assert row["error"] == "time budget 0:00:00: exhausted before the end; raise POCKETWATCH_TIME_BUDGET"
    assert 0 < totals(row)["scanned"] < 6000


@pytest.fixture
def elsewhere(settings: Settings, database: Database) -> Any:
    """Run the job with another REDIS_URL, and return what it raises."""

    async def run(url: str | None) -> JobContext:
        servers = settings.servers.model_copy(update={"redis_url": url})
        one = job_context(JOB, database, settings.model_copy(update={"servers": servers}))
        await job.clean_sessions(CleanSessions(), one)
        return one

    return run


async def test_run_without_redis_is_skipped(elsewhere: Any):
    one = await elsewhere(None)

    assert (one.status, one.reason) == ("skipped", "REDIS_URL: not set; there are no sessions to clean")
    assert one.statistics == NOTHING | {"patterns": dict.fromkeys(DEFAULTS, NOTHING)}


@pytest.fixture
def wrong_urls(redis_url: str) -> dict[str, str]:
    place = redis_url.rpartition("@")[2]
    return {
        "wrong password": f"redis://:not-the-password@{place}",
        "no password": f"redis://{place}",
        "unreachable": "redis://:not-the-password@127.0.0.1:1/0",
    }


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("wrong password", "refuses the login: invalid username-password pair"),
        ("no password", "refuses the login: Authentication required"),
        ("unreachable", "Redis at 127.0.0.1:1/0 does not answer: "),
    ],
)
async def test_unreachable_redis_fails_with_the_reason(
    settings: Settings, publisher: Publisher, runs: Runs, wrong_urls: dict[str, str], which: str, words: str
):
    servers = settings.servers.model_copy(update={"redis_url": wrong_urls[which]})
    async with job_consumed(settings.model_copy(update={"servers": servers})):
        sent = await trigger.publish(publisher, CleanSessions())
        row = await runs.over(sent.message_id)

    assert (row["status"], row["attempt"]) == ("failed", 1)
    assert words in row["error"]
    assert "password@" not in row["error"]
    assert "not-the-password" not in row["error"]


async def test_replica_is_refused(elsewhere: Any, sessions: Sessions, redis_url: str):
    sessions.add("session:t", expires=days_ago(40))
    sessions.redis.replicaof("127.0.0.1", "1")
    try:
        with pytest.raises(Exception, match="is a read-only replica; set REDIS_URL to the primary"):
            await elsewhere(redis_url)
    finally:
        sessions.redis.replicaof("NO", "ONE")

    assert sessions.keys() == {b"session:t"}


async def test_clock_skew_deletes_nothing(database: Database, settings: Settings, sessions: Sessions):
    sessions.add("session:t", expires=days_ago(40))
    one = job_context(JOB, database, settings)
    one.now += timedelta(hours=2)

    with pytest.raises(Exception, match="nothing was changed, set the clocks"):
        await job.clean_sessions(CleanSessions(), one)
    with pytest.raises(Exception, match=r"Redis says .* nothing was changed, set the clocks"):
        clock_skew.check(one.now, datetime.now(UTC), of="Redis")

    assert sessions.keys() == {b"session:t"}


@pytest.mark.parametrize("which", ["wrong password", "unreachable"])
def test_doctor_names_the_problem_with_redis(pocketwatch: Program, wrong_urls: dict[str, str], which: str):
    done = pocketwatch("doctor", "--json", REDIS_URL=wrong_urls[which])

    (found,) = [finding for finding in json.loads(done.stdout) if finding["subject"].lower() == "redis"]
    assert found["result"] == "problem"
    assert ("refuses the login" if which == "wrong password" else "does not answer") in found["detail"]
    assert "not-the-password" not in done.stdout + done.stderr


def test_doctor_finds_redis_ok_or_missing(pocketwatch: Program):
    def of(**changes: str) -> dict[str, str]:
        findings = json.loads(pocketwatch("doctor", "--json", **changes).stdout)
        return next(finding for finding in findings if finding["subject"] == "Redis")

    assert of()["result"] == "ok"
    assert of()["detail"].startswith("version ")
    assert of(REDIS_URL="")["result"] == "warning"
    assert of(REDIS_URL="")["detail"] == "REDIS_URL is not set, so cleanup.sessions is skipped"


def job_consumed(settings: Settings) -> Any:
    from pocketwatch.worker.app import ConsumerApp  # noqa: PLC0415

    return ConsumerApp(settings, [job.clean_sessions], role="test")


def with_patterns(settings: Settings, *patterns: str) -> Settings:
    chosen = reading.Sessions(POCKETWATCH_SESSION_KEY_PATTERNS=patterns)  # type: ignore[call-arg]
    return settings.model_copy(update={"sessions": chosen})
