"""Stacks for tests, and the data that tests store in their servers."""

import asyncio
import contextlib
import json
import os
import signal
import smtplib
import tempfile
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import asyncpg
from redis.asyncio import Redis

from pocketwatch.stack.stack import Stack
from tests.support.machine import eventually, listener

QUEUE = "kept"
SERVERS = ("rabbitmq", "postgres", "redis", "mail")


@contextlib.contextmanager
def temporary_folder(mode: int = 0o755) -> Iterator[Path]:
    """Yield a folder for a stack, whose parent every user can enter (pytest's own are private); destroy the stack."""
    with tempfile.TemporaryDirectory(prefix="pocketwatch-", ignore_cleanup_errors=True) as parent:
        Path(parent).chmod(mode)
        folder = Path(parent) / "stack"
        try:
            yield folder
        finally:
            quiet_stack(folder).down(wipe=True)


def quiet_stack(folder: Path, *, external: Mapping[str, str] | None = None) -> Stack:
    """Return a stack without progress lines, whose PostgreSQL writes fast."""
    return Stack(folder, external=external, durable=False, echo=lambda _: None)


@contextlib.contextmanager
def small_stack() -> Iterator[Stack]:
    """Yield a stack without RabbitMQ, which takes longest to start: a port that accepts connections replaces it."""
    with temporary_folder() as folder, listener() as port:
        yield quiet_stack(folder, external={"RABBITMQ_URL": f"amqp://user:secret@127.0.0.1:{port}/"})


def pid(stack: Stack, server: str) -> int:
    found = stack.pid(server)
    assert found is not None, f"{server} does not run"
    return found


def pids(stack: Stack, *servers: str) -> dict[str, int]:
    """Return the processes of these servers, or of all."""
    return {server: pid(stack, server) for server in servers or SERVERS}


def record(stack: Stack) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((stack.folder / "state.json").read_text())
    return values


def kill(stack: Stack, *servers: str) -> None:
    """Kill servers, and wait until they are gone."""
    for server in servers:
        os.kill(pid(stack, server), signal.SIGKILL)
    assert eventually(lambda: not any(stack.pid(server) for server in servers))


async def make_queue(environment: Mapping[str, str]) -> None:
    """Declare a quorum queue that survives a kill.

    RabbitMQ 3.10 writes the name of a new one to the disk up to a second late; killed before, it restarts with an empty
    queue of that name.
    """
    async with await aio_pika.connect(environment["RABBITMQ_URL"]) as broker, broker.channel() as channel:
        await channel.declare_queue(QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
    await asyncio.sleep(1.5)


async def store(environment: Mapping[str, str], text: str) -> None:
    """Store a persistent message, a row and a key."""
    async with await aio_pika.connect(environment["RABBITMQ_URL"]) as broker, broker.channel() as channel:
        queue = await channel.declare_queue(QUEUE, passive=True)
        await queue.purge()
        message = aio_pika.Message(text.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key=QUEUE)
    database = await asyncpg.connect(environment["DATABASE_URL"])
    await database.execute("CREATE TABLE IF NOT EXISTS kept (text text); TRUNCATE kept")
    await database.execute("INSERT INTO kept VALUES ($1)", text)
    await database.close()
    async with Redis.from_url(environment["REDIS_URL"]) as redis:
        await redis.set("kept", text)


async def stored(environment: Mapping[str, str]) -> set[Any]:
    """Return the stored texts of RabbitMQ, PostgreSQL and Redis."""
    async with await aio_pika.connect(environment["RABBITMQ_URL"]) as broker, broker.channel() as channel:
        queue = await channel.declare_queue(QUEUE, passive=True)
        message = await queue.get()
        await message.nack(requeue=True)
    database = await asyncpg.connect(environment["DATABASE_URL"])
    row = await database.fetchval("SELECT text FROM kept")
    await database.close()
    async with Redis.from_url(environment["REDIS_URL"], decode_responses=True) as redis:
        key = await redis.get("kept")
    return {message.body.decode(), row, key}


def send(url: str, subject: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@site.test", "olena@site.test", subject
    message.set_content("Hello")
    server = urlsplit(url)
    with smtplib.SMTP(server.hostname or "", server.port or 0, local_hostname="localhost", timeout=10) as smtp:
        smtp.send_message(message)
