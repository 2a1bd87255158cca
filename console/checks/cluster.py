"""Checks of a cluster: whether its nodes run, and the loss of one leaves each quorum queue most of its members."""

import re
import shlex
from collections.abc import AsyncIterator, Collection

import httpx

from pocketwatch.broker.connection import vhost_of
from pocketwatch.broker.management import FAILED, ManagementApi, reason_of
from pocketwatch.broker.topology import with_celery
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.text import counted

SUBJECT = "cluster"
MEMBERS = 3  # of a queue, where RabbitMQ has as many nodes; it does not give a queue more by itself
FORBIDDEN = "not checked; the user of RABBITMQ_MANAGEMENT_URL needs the tag monitoring"


async def check_cluster(settings: Settings) -> AsyncIterator[Finding]:
    """Check the nodes of a cluster, and that each queue has members on them; a single node yields no finding."""
    url = settings.servers.rabbitmq_management_url
    if url is None or settings.servers.rabbitmq_url is None:
        return
    vhost = vhost_of(settings.rabbitmq_urls[0])
    try:
        async with ManagementApi(url, vhost) as api:
            nodes = await api.nodes()
            queues = await api.queues() if len(nodes) > 1 else []
    except FAILED as error:
        is_forbidden = isinstance(error, httpx.HTTPStatusError) and error.response.status_code in {401, 403}
        yield Finding(SUBJECT, "ok", FORBIDDEN) if is_forbidden else Finding(SUBJECT, "warning", reason_of(error))
        return
    if len(nodes) == 1:
        return
    for node in (name for name, is_running in nodes.items() if not is_running):
        detail = "down, or separated from the others by a partition; start it, or restart it if it runs"
        yield Finding(f"node {node}", "warning", detail)
    ours = {queue.name for queue in with_celery(settings.bridge.celery_queue).all_queues}
    members = [queue["members"] for queue in queues if queue["name"] in ours and "members" in queue]
    wanted = min(MEMBERS, len(nodes))
    if not (missing := [_missing(each, nodes, wanted) for each in members if len(each) < wanted]):
        yield Finding(SUBJECT, "ok", f"{len(nodes)} nodes; each quorum queue has {wanted} members")
        return
    remedy = "; ".join(_grow(node, vhost) for node in sorted(set().union(*missing)))
    detail = f"{counted(len(missing), 'queue')} of {len(members)} have fewer than {wanted} members"
    yield Finding(SUBJECT, "warning", f"{detail}, so that the loss of a node may stop them; run on a node: {remedy}")


def _missing(members: Collection[str], nodes: Collection[str], wanted: int) -> list[str]:
    """Return the nodes on which a queue should have members too."""
    return [node for node in nodes if node not in members][: wanted - len(members)]


def _grow(node: str, vhost: str) -> str:
    return shlex.join(["rabbitmq-queues", "grow", node, "all", "--vhost-pattern", f"^{re.escape(vhost)}$"])
