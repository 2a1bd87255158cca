"""A job end to end: a consumer process, a message, and its row of the run log."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench import memory, programs
from bench.rounds import Sample
from bench.servers import WorkNotDone
from pocketwatch import command, settings
from pocketwatch.broker.publisher import Publisher
from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from publishers import trigger
from schemas.message import Message

TIMEOUT = 600.0  # seconds


@dataclass(frozen=True)
class Run:
    """One run of a job: its time, memory and statistics."""

    sample: Sample
    statistics: dict[str, Any]


def measure(message: Message, environment: Mapping[str, str], *, warm: bool = False) -> Run:
    """Send a job to an idle consumer: one that has just started, or (`warm`) one that has run the job before."""
    group = message.routing_key.partition(".")[0]
    with programs.working(programs.module("pocketwatch", "consume", group), environment) as consumer:
        consumer.until(lambda: "consumers.started" in consumer.log.read_text(), within=30)
        if warm:
            command.run(_follow(settings.load(environment), message))
        memory.forget_peak(consumer.pid)
        idle = memory.resident(consumer.pid)
        row, wall = command.run(_follow(settings.load(environment), message))
        peak = memory.peak(consumer.pid)
    if row["status"] != "succeeded":
        raise WorkNotDone(f"{message.routing_key} {row['status']}: {row['error']}")
    seconds = (row["finished_at"] - row["started_at"]).total_seconds()
    return Run(Sample(seconds, peak=peak, idle=idle, wall=wall), row["statistics"])


async def _follow(loaded: settings.Settings, message: Message) -> tuple[run_log.Row, float]:
    """Return the row of the finished run, and the seconds since the message was published."""
    database = Database(loaded.database_url, name="bench")
    try:
        async with Publisher(loaded.rabbitmq_urls, role="bench") as publisher, asyncio.timeout(TIMEOUT):
            began = time.perf_counter()
            envelope = await trigger.publish(publisher, message)
            while True:
                async with database.begin() as connection:
                    rows = await run_log.of_message(connection, envelope.message_id)
                if rows and rows[-1]["finished_at"]:
                    return rows[-1], time.perf_counter() - began
                await asyncio.sleep(programs.POLL_INTERVAL)
    finally:
        await database.close()
