"""Each process works with what `grants` gives it, and can do nothing else: the servers refuse it."""

import asyncio
from collections.abc import Sequence

import pytest

from demo import moderation
from pocketwatch.broker.publisher import Publisher
from publishers import trigger
from schemas.catalogue import TICK_TYPES
from tests.fixtures.limited import Deployment
from tests.support.waiting import eventually


async def test_every_job_of_every_group_works(deployment: Deployment):
    ids = []
    async with Publisher([deployment.servers.amqp(deployment.vhost)], role="test") as publisher:
        for tick in TICK_TYPES:
            ids.append((await trigger.publish(publisher, tick())).message_id)

    rows = await over(deployment, ids)

    assert {row["job"]: row["error"] for row in rows if row["status"] not in ("succeeded", "skipped")} == {}


async def over(deployment: Deployment, ids: Sequence[str]) -> list[dict]:
    async def look():
        rows = deployment.rows("SELECT * FROM update_logs WHERE message_id = ANY(%(ids)s) AND status <> 'running'", ids=list(ids))
        return rows if len({row["message_id"] for row in rows}) == len(ids) else None

    return await eventually(look)
