"""Each process works with what `grants` gives it, and can do nothing else: the servers refuse it."""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aio_pika
import aiormq.exceptions
import httpx
import jwt
import psycopg
import pytest
from aio_pika.abc import AbstractChannel, AbstractConnection

from console.grants import PROCESSES, message_types_of, permissions_of, privileges_of
from consumers.app import GROUPS, consumers_of
from demo import moderation
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.topology import with_celery
from schemas.catalogue import CATALOGUE, TICK_TYPES
from tests.fixtures.limited import SECRET, Deployment
from tests.fixtures.suite import Row
from tests.support.waiting import eventually

Message = tuple[str, str, Any, dict[str, Any]]  # exchange, routing key, body and headers

TOPOLOGY = with_celery("celery")
DONE = ("succeeded", "partial", "skipped")
# Only a bug in a handler takes a claim back there.
UNTRIED = {("moderation", "inbox", "DELETE", None)}


def queues_of(group: str) -> list[str]:
    return [each.queue.name for each in consumers_of([group])]


def celery_task(task: str, *args: Any) -> Message:
    headers = {"lang": "py", "task": task, "id": str(uuid4()), "root_id": None, "argsrepr": "", "kwargsrepr": ""}
    return "", "celery", [args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}], headers


def messages_of(group: str, deployment: Deployment) -> list[Message]:
    """One for every consumer of the group, and more where one does not show all that the consumer does."""
    queues = set(queues_of(group))
    jobs: list[Message] = [("ticks", tick.routing_key, {}, {}) for tick in TICK_TYPES if tick.routing_key in queues]
    ads = list(moderation.statuses(deployment.database_url))
    events = moderation.build_messages(ads)
    if group == "moderation":
        row = {"manager_id": _manager(deployment), "action": "ad_flagged", "title": "Ad", "message": "text"}
        requested = ("moderation", "moderation.notification_requested", row, {})
        return [*jobs, *((exchange, key, body, {}) for exchange, key, body in events if exchange != "mail"), requested]
    if group == "mail":
        claims = {"purpose": "unsubscribe", "address": "reader@example.com", "scope": "subscribed"}
        click = ("mail", "mail.unsubscribed", {"token": jwt.encode(claims, SECRET, "HS256")}, {})
        return [*jobs, *((exchange, key, body, {}) for exchange, key, body in events if exchange == "mail"), click]
    if group == "bridge":
        bulk = "apps.ads.tasks.moderation_notifications.notify_bulk_status_changed"
        return [celery_task("clean_generated_media"), celery_task(bulk, ads[:2], "archived")]
    return jobs


def _manager(deployment: Deployment) -> int:
    return int(deployment.rows("SELECT id FROM auth_user WHERE is_staff AND is_active LIMIT 1")[0]["id"])


async def publish(deployment: Deployment, messages: Sequence[Message]) -> list[str]:
    """Publish as those who may; return the ids."""
    ids = []
    async with await aio_pika.connect(deployment.servers.amqp(deployment.vhost)) as connection:
        channel = await connection.channel()
        for exchange, key, body, headers in messages:
            ids.append(headers.get("id") or str(uuid4()))
            target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
            message = aio_pika.Message(
                json.dumps(body).encode(),
                message_id=ids[-1],
                correlation_id=ids[-1],
                headers=headers,
                content_type="application/json",
                content_encoding="utf-8",
            )
            await target.publish(message, key)
    return ids


async def over(deployment: Deployment, ids: Sequence[str]) -> list[Row]:
    """The last attempts at these messages, when all are over."""
    sql = "SELECT * FROM update_logs WHERE message_id = ANY(%(ids)s) AND status <> 'running' ORDER BY id"

    async def look() -> list[Row]:
        rows = {row["message_id"]: row for row in deployment.rows(sql, ids=list(ids))}
        return list(rows.values()) if len(rows) == len(ids) else []

    return await eventually(look)


@pytest.mark.parametrize("group", GROUPS)
async def test_every_consumer_of_a_group_works(deployment: Deployment, group: str):
    ids = await publish(deployment, messages_of(group, deployment))

    rows = await over(deployment, ids)

    assert {row["job"] for row in rows} == set(queues_of(group))
    assert [(row["job"], row["status"], row["error"]) for row in rows if row["status"] not in DONE] == []
    assert not any("permission denied" in (row["error"] or "") for row in rows)


async def test_publishers_fire_relay_and_settle(deployment: Deployment):
    unroutable = "INSERT INTO outbox (message_id, exchange, routing_key, payload) VALUES ('x', 'nowhere', 'x', '{}') "
    deployment.rows(unroutable + "RETURNING id")

    async def look() -> bool:
        sent = "JOIN outbox USING (message_id) WHERE sent_at IS NOT NULL"
        fires = deployment.rows(f"SELECT 1 FROM fires {sent} AND outcome IS NOT NULL")
        return bool(fires and deployment.rows("SELECT 1 FROM outbox WHERE message_id = 'x' AND attempts > 0"))

    await eventually(look)


async def test_publishers_read_every_figure_of_the_suite(deployment: Deployment):
    (line,) = deployment.processes["publishers"].until("http.listening")

    async with httpx.AsyncClient(trust_env=False) as client:
        shown = (await client.get(f"http://{line['address']}/metrics")).text

    assert "pocketwatch_database_up 1.0" in shown
    assert [each for each in shown.splitlines() if each.startswith("pocketwatch_figure_errors_total{")] == []
    assert 'pocketwatch_dead_letters{queue="cleanup.tokens"}' in shown


@pytest.mark.parametrize("group", GROUPS)
async def test_refused_message_of_a_group_becomes_a_dead_letter(deployment: Deployment, group: str):
    refused: list[Message] = [("", queue, ["no object"], {}) for queue in queues_of(group)]
    if group == "bridge":
        refused = [celery_task("no.such.task")]  # refused by the handler, so that its claim is released

    rows = await over(deployment, await publish(deployment, refused))

    assert {row["status"] for row in rows} == {"rejected"}
    async with await aio_pika.connect(deployment.amqp(group)) as connection:

        async def all_are_dead_letters() -> bool:  # published after the log row
            return all([await queue_info(connection, f"{queue}.dead") == (1, 0) for queue in queues_of(group)])

        await eventually(all_are_dead_letters)


Right = tuple[str, str, str | None]  # table, privilege, and column unless it is of the whole table


def rights_of(name: str) -> Iterator[Right]:
    """What is granted, one by one."""
    for table, privileges in privileges_of([name]).items():
        for privilege in privileges:
            kind, _, columns = privilege.rstrip(")").partition(" (")
            yield from ((table, kind, column) for column in (columns.split(", ") if columns else [None]))


@pytest.mark.parametrize("name", PROCESSES)
def test_every_right_in_the_database_is_needed(deployment: Deployment, name: str):
    """Explain what the process has executed, without one right after another: the server checks them then, too."""
    unneeded = []
    account = deployment.account(name)
    with psycopg.connect(deployment.database_url) as connection:
        statements = prepare(connection, deployment.statements(name))
        for table, kind, column in rights_of(name):
            if table.startswith("SEQUENCE"):  # drawing from a sequence is not explained
                continue
            revoked = kind if column is None else f"{kind} ({column})"
            connection.execute(f"REVOKE {revoked} ON {table} FROM {account}; SET LOCAL ROLE {account}".encode())
            if not any(is_refused(connection, each) for each, sql in statements.items() if table in sql):
                unneeded.append((table, kind, column))
            connection.rollback()

    assert {right for right in unneeded if (name, *right) not in UNTRIED} == set()


def prepare(connection: psycopg.Connection, executed: set[str]) -> dict[str, str]:
    """Prepare what reads or writes tables; return the command that explains it, with the statement."""
    found: dict[str, str] = {}
    connection.execute("SET plan_cache_mode = force_generic_plan")  # a plan for nulls omits and so permits whole tables
    for number, sql in enumerate(sorted(executed)):
        if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", sql):
            count = max((int(each) for each in re.findall(r"\$(\d+)", sql)), default=0)
            connection.execute(f"PREPARE s{number} AS {sql}".encode(), prepare=False)
            arguments = f"({', '.join(['NULL'] * count)})" if count else ""
            found[f"EXPLAIN EXECUTE s{number}{arguments}"] = sql
    connection.commit()
    return found


def is_refused(connection: psycopg.Connection, statement: str) -> bool:
    try:
        with connection.transaction():
            connection.execute(statement.encode(), prepare=False)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


# Nothing else


@pytest.mark.parametrize("name", PROCESSES)
def test_role_has_no_other_right(deployment: Deployment, name: str):
    role = deployment.account(name)
    sql = """
      SELECT relname AS table, kind, attname AS column FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) AS kind
      WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f') AND attnum > 0
        AND NOT attisdropped AND has_column_privilege(%(role)s, pg_class.oid, attnum, kind)
      UNION ALL SELECT relname, kind, NULL FROM pg_class
        CROSS JOIN unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) AS kind
      WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
        AND has_table_privilege(%(role)s, pg_class.oid, kind)"""
    allowed = set(rights_of(name))

    found = {(row["table"], row["kind"], row["column"]) for row in deployment.rows(sql, role=role)}

    assert {
        (table, kind, column)
        for table, kind, column in found
        if not {(table, kind, column), (table, kind, None)} & allowed
    } == set()
    assert not any(table == "auth_user" and column == "password" for table, _, column in found)


FORBIDDEN = (
    "SELECT password FROM auth_user",
    "UPDATE auth_user SET is_superuser = true",
    "DELETE FROM car_ads",
    "TRUNCATE currency_rates",
    "CREATE TABLE mine (id int)",
    "ALTER TABLE outbox DISABLE TRIGGER ALL",
    "CREATE ROLE mine",
    "SELECT rolpassword FROM pg_authid",
    "COPY inbox TO PROGRAM 'cat'",
)


@pytest.mark.parametrize("name", PROCESSES)
def test_database_refuses_what_is_not_granted(deployment: Deployment, name: str):
    with psycopg.connect(deployment.postgresql(name), autocommit=True) as connection:
        assert [statement for statement in FORBIDDEN if not is_refused(connection, statement)] == []


@pytest.mark.parametrize("name", PROCESSES)
def test_role_has_only_its_own_messages_published(deployment: Deployment, name: str):
    columns = "message_id, exchange, routing_key, payload, headers"
    insert = f"INSERT INTO outbox ({columns}) VALUES ('y', '{{}}', '{{}}', '{{{{}}}}', '{{}}')"
    permitted, copied = set(), '{"CC": ["cleanup.media"]}'
    with psycopg.connect(deployment.postgresql(name)) as connection:
        for each in CATALOGUE.values():
            with connection.transaction(force_rollback=True):
                assert is_refused(connection, insert.format(each.exchange, each.routing_key, copied))
                if not is_refused(connection, insert.format(each.exchange, each.routing_key, "{}")):
                    permitted.add(each)

    assert permitted == message_types_of([name])


@pytest.mark.parametrize("name", PROCESSES)
async def test_broker_refuses_what_is_not_permitted(deployment: Deployment, name: str):
    permitted = permissions_of([name], celery="celery")
    queues = [queue.name for queue in TOPOLOGY.all_queues]
    exchanges = [exchange.name for exchange in TOPOLOGY.all_exchanges]
    keys = {(each, key) for each, keys in permitted.routing_keys.items() for key in keys}
    others = [(each, key) for each in exchanges for key in ("cleanup.media", "rates.update", "user.ad.approved", "x")]
    some = [*sorted(permitted.read), "cleanup.media", "rates.update.dead", "wait.10s", "mine"]
    async with await aio_pika.connect(deployment.amqp(name)) as connection:
        tried = partial(permitted_of, connection)

        assert await tried(purge, queues) == permitted.read
        assert await tried(send, keys) == keys
        assert await tried(send, others) == keys.intersection(others)
        assert await tried(send, [("", queue) for queue in some]) == set()
        for action in (bind, delete, declare_queue, declare_exchange):
            assert await tried(action, some) == set()


async def permitted_of(
    connection: AbstractConnection, action: Callable[[AbstractChannel, Any], Awaitable[object]], targets: Iterable[Any]
) -> set[Any]:
    """Return for which of these the broker permits the action; each is tried on a channel that a refusal closes."""
    permitted = set()
    for target in targets:
        channel = await connection.channel()
        try:
            await action(channel, target)
            permitted.add(target)
            await channel.close()
        except aiormq.exceptions.ChannelAccessRefused:
            pass
    return permitted


async def purge(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).purge()


async def send(channel: AbstractChannel, target: tuple[str, str]) -> None:
    exchange, key = target
    sender = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
    await sender.publish(aio_pika.Message(b"", expiration=1), key, mandatory=False)


async def bind(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).bind("ticks", "#")


async def delete(channel: AbstractChannel, queue: str) -> None:
    await (await channel.get_queue(queue, ensure=False)).delete()


async def declare_queue(channel: AbstractChannel, queue: str) -> None:
    await channel.declare_queue(queue, durable=True)


async def declare_exchange(channel: AbstractChannel, exchange: str) -> None:
    await channel.declare_exchange(exchange, aio_pika.ExchangeType.TOPIC, durable=True)


# Lost connections


async def test_process_outlives_lost_connections(deployment: Deployment):
    """What a process restores when it is connected again, it may."""
    consumer = deployment.processes["rates"]
    with deployment.servers.management as api:
        for connection in api.get("/connections", params={"columns": "name,user"}).raise_for_status().json():
            if connection["user"] == deployment.account("rates"):
                api.delete(f"/connections/{quote(connection['name'], safe='')}").raise_for_status()
    consumer.until("broker.reconnected", count=2)

    (row,) = await over(deployment, await publish(deployment, [("ticks", "rates.cleanup", {}, {})]))

    assert row["status"] == "succeeded"
    assert consumer.lines("broker.topology_not_declared") == []


def test_doctor_says_what_a_limited_user_cannot_check(deployment: Deployment):
    done = deployment.program(
        "doctor", "--json", RABBITMQ_URL=deployment.amqp("mail"), DATABASE_URL=deployment.postgresql("publishers")
    )

    found = {(finding["subject"], finding["result"]): finding["detail"] for finding in json.loads(done.stdout)}
    assert "permission denied for table currency_rates; for what it needs, see: pocketwatch grants" in str(
        found["rates", "problem"]
    )
    assert found["queues", "warning"].startswith("arguments were not compared: this user may not declare queues")


DENIED = (
    "pocketwatch: the database's user lacks INSERT on fires, UPDATE on fires, INSERT on fire_accounts, UPDATE on "
    "fire_accounts, SELECT on outbox, UPDATE (attempts, available_at, last_error, sent_at) on outbox, INSERT on "
    "schedule_entries, UPDATE on schedule_entries, DELETE on schedule_entries; to grant it, see: pocketwatch grants"
)


@pytest.mark.parametrize(
    ("command", "reason"),
    [("publish", DENIED), ("migrate", "exist; this user may not declare or compare them")],
)
def test_limited_user_who_runs_another_command_sees_one_line(deployment: Deployment, command: str, reason: str):
    urls = {"RABBITMQ_URL": deployment.amqp("rates"), "DATABASE_URL": deployment.postgresql("rates")}

    done = deployment.program(command, **urls)

    assert len([line for line in (done.stdout + done.stderr).splitlines() if reason in line]) == 1
    assert "Traceback" not in done.stderr
