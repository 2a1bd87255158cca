"""`migrate`: the suite's tables and the broker topology."""

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPError

from pocketwatch.broker.declare import declare_missing, preflight
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import Queue, with_celery
from pocketwatch.cancellation import as_connection_lost
from pocketwatch.command import read_settings, run, user_or_id
from pocketwatch.settings import Settings
from pocketwatch.storage import django, operator_actions
from pocketwatch.storage import migrate as migrations
from pocketwatch.storage.database import Database
from pocketwatch.terminal import say


def migrate() -> None:
    """Create or upgrade the suite's tables, and declare every exchange and queue. Safe to repeat.

    Example: pocketwatch migrate
    """
    settings = read_settings()
    run(_migrate(settings))


async def _declare_external(connection: AbstractConnection, queue: Queue) -> None:
    """Declare an external queue where it is missing; nothing else depends on it."""
    try:
        with as_connection_lost():
            await declare_missing(connection, queue)
    except (AMQPError, OSError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        say(f'queue "{queue.name}" does not exist or is unreachable: {reason}; its consumer retries', style="yellow")


async def _migrate(settings: Settings) -> None:
    # The database first: a consumer that finds its queue must find its tables.
    database = Database(settings.database_url, name="pocketwatch migrate")
    try:
        await database.ready(startup_timeout=settings.servers.startup_timeout)
        applied = await migrations.migrate(database)
        recorded = await django.record_first_migrations(database)
        if applied:
            async with database.begin() as connection:
                await operator_actions.record(
                    connection, actor=user_or_id(), source="cli", action="migrate", target="tables", after=applied
                )
    finally:
        await database.close()
    say(f"tables: {', '.join(applied)}" if applied else "tables: up to date")
    for app in recorded.done:
        say(f"Django: recorded {app}.{django.FIRST} as applied, because its tables exist")
    if recorded.left:
        apps = " and ".join(recorded.left)
        say(
            f"Django: may not know that the tables of {apps} exist; to migrate it, run: {django.REMEDY}", style="yellow"
        )
    topology, startup_timeout = with_celery(settings.bridge.celery_queue), settings.servers.startup_timeout
    async with Publisher(
        settings.rabbitmq_urls, role="migrate", startup_timeout=startup_timeout, topology=topology
    ) as publisher:
        may_declare = await preflight(publisher.connection, topology)
        for queue in topology.queues:
            if queue.external:
                await _declare_external(publisher.connection, queue)
    done = "declared" if may_declare else "exist; this user may not declare or compare them"
    say(f"broker: {len(topology.all_exchanges)} exchanges and {len(topology.own_queues)} queues {done}")
