"""The topology as a value: routes, and what every queue says of itself."""

import pytest

from console.grants import permissions_of
from pocketwatch.broker.topology import TOPOLOGY, matches, with_celery
from pocketwatch.errors import SettingsError
from schemas.catalogue import CATALOGUE
from schemas.message import Tick

USER_KEYS = ("approved", "rejected", "needs_edit", "max_attempts", "unknown")
MANAGER_KEYS = ("review_required", "max_attempts", "flagged", "unknown")
# What RabbitMQ 3.10 and 4.x both accept and apply for quorum queues.
ACCEPTED = {
    "x-queue-type",
    "x-overflow",
    "x-delivery-limit",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-single-active-consumer",
    "x-message-ttl",
}


def test_exchanges_have_the_names_of_the_contract():
    names = [exchange.name for exchange in TOPOLOGY.exchanges]

    assert names == ["ticks", "moderation", "user_notifications", "manager_notifications", "mail", "facts", "dead"]


def test_celery_queue_is_classic_without_arguments():
    queue = with_celery("celery").queue("celery")

    assert queue is not None
    assert (dict(queue.arguments), queue.bindings, queue.external) == ({}, (), True)


@pytest.mark.parametrize("name", ["celery.dead", "cleanup.media", "wait.1m"])
def test_queue_of_the_suite_is_no_forward_queue(name: str):
    with pytest.raises(SettingsError, match=f'POCKETWATCH_CELERY_FORWARD_QUEUE is "{name}": a queue of Pocketwatch'):
        with_celery("celery", name)


def test_bridge_that_forwards_may_publish_to_the_default_exchange():
    forwarding, without, others = (
        permissions_of(["bridge"], celery="celery", forward="site.tasks"),
        permissions_of(["bridge"], celery="celery"),
        permissions_of(["rates"], celery="celery", forward="site.tasks"),
    )

    assert ["amq.default" in each.write for each in (forwarding, without, others)] == [True, False, False]


@pytest.mark.parametrize(
    ("exchange", "key", "queues"),
    [
        ("moderation", "ad.submitted", ["moderation.review"]),
        *(("user_notifications", f"user.ad.{what}", ["moderation.user_notices"]) for what in USER_KEYS),
        *(("manager_notifications", f"manager.ad.{what}", ["moderation.manager_notices"]) for what in MANAGER_KEYS),
        ("moderation", "user.ad.approved", ["moderation.user_notices"]),
        ("mail", "mail.requested", ["mail.delivery"]),
        ("mail", "mail.unsubscribed", ["mail.unsubscribe"]),
    ],
)
def test_messages_of_the_platform_reach_their_consumer(exchange: str, key: str, queues: list[str]):
    assert [queue.name for queue in TOPOLOGY.route(exchange, key)] == queues


def test_delay_queues_have_the_names_of_the_contract():
    seconds = {wait.name: wait.delay.total_seconds() for wait in TOPOLOGY.delay_queues}

    assert seconds == {"wait.10s": 10, "wait.1m": 60, "wait.5m": 300, "wait.30m": 1800, "wait.2h": 7200}


@pytest.mark.parametrize("queue", TOPOLOGY.all_queues, ids=lambda queue: queue.name)
def test_queue_arguments_are_valid_on_every_supported_version(queue):
    assert queue.arguments["x-queue-type"] == "quorum"
    assert queue.arguments["x-overflow"] == "reject-publish"
    assert set(queue.arguments) <= ACCEPTED


@pytest.mark.parametrize("queue", TOPOLOGY.queues, ids=lambda queue: queue.name)
def test_every_queue_has_a_dead_letter_queue_that_is_bound(queue):
    assert queue.arguments["x-dead-letter-exchange"] == "dead"
    assert queue.arguments["x-dead-letter-routing-key"] == queue.name
    assert any(
        other.name == f"{queue.name}.dead" and ("dead", queue.name) in [(ex.name, key) for ex, key in other.bindings]
        for other in TOPOLOGY.all_queues
    )


@pytest.mark.parametrize(
    "tick", [m for m in CATALOGUE.values() if issubclass(m, Tick)], ids=lambda tick: tick.routing_key
)
def test_every_tick_reaches_only_its_own_single_active_queue(tick):
    (queue,) = TOPOLOGY.route("ticks", tick.routing_key)

    assert (queue.name, queue.single_active, queue.prefetch) == (tick.routing_key, True, 1)


@pytest.mark.parametrize(
    ("pattern", "key", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a", False),
        ("#", "a.b.c", True),
        ("#", "", True),
        ("a.#", "a", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.x.y.c", True),
        ("*.#", "", True),
        ("*.b", "a.b.c", False),
    ],
)
def test_patterns_match_like_a_topic_exchange(pattern: str, key: str, *, expected: bool):
    assert matches(pattern, key) is expected
