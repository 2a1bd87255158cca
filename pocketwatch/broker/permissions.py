"""What each process may do on RabbitMQ, derived from the topology and the catalogue, as `rabbitmqctl` commands.

Only `migrate` declares, so no other user may configure anything. Each publishes with the routing keys that it needs
only: a delay queue returns a message to the queue that its routing key names.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pocketwatch.broker.topology import DEAD, TOPOLOGY, Queue, Topology
from schemas.catalogue import CATALOGUE

DEFAULT_EXCHANGE = "amq.default"  # as permissions name it

Names = frozenset[str]


@dataclass(frozen=True)
class Permissions:
    """Names of exchanges and queues.

    Args:
        routing_keys: those to publish with, for each exchange on which they are restricted.
    """

    configure: Names = frozenset()
    write: Names = frozenset()
    read: Names = frozenset()
    routing_keys: Mapping[str, Names] = field(default_factory=dict)

    def __or__(self, other: "Permissions") -> "Permissions":
        exchanges = {*self.routing_keys, *other.routing_keys}
        nothing: Names = frozenset()
        keys = {
            each: self.routing_keys.get(each, nothing) | other.routing_keys.get(each, nothing) for each in exchanges
        }
        return Permissions(self.configure | other.configure, self.write | other.write, self.read | other.read, keys)


def of_consumers(queues: Sequence[Queue], *, forwards: bool = False) -> Permissions:
    """Read these queues; let their messages wait for a retry, or become dead letters. The relay publishes the rest.

    Args:
        forwards: publish to a queue of others, too; the default exchange leads to every queue.
    """
    exchanges = [DEAD.name, *(delay.exchange.name for delay in TOPOLOGY.delay_queues)]
    names = frozenset(queue.name for queue in queues)
    default = {DEFAULT_EXCHANGE} if forwards else set()
    return Permissions(
        write=frozenset({*exchanges, *default}), read=names, routing_keys=dict.fromkeys(exchanges, names)
    )


def of_publishers() -> Permissions:
    """Publish every kind of message: the relay publishes for all."""
    keys: dict[str, Names] = {}
    for each in CATALOGUE.values():
        keys[each.exchange] = keys.get(each.exchange, frozenset()) | {each.routing_key}
    return Permissions(write=frozenset(keys), routing_keys=keys)


def of_console(topology: Topology) -> Permissions:
    """Publish every kind of message, and move dead letters and waiting messages to their queues."""
    exchanges = frozenset(exchange.name for exchange in topology.all_exchanges)
    return Permissions(write=exchanges | {DEFAULT_EXCHANGE}, read=frozenset(each.name for each in topology.all_queues))


def of_migration(topology: Topology) -> Permissions:
    """Declare and bind everything; a queue with the default exchange as its dead-letter target needs to write to it."""
    exchanges, queues = topology.all_exchanges, topology.all_queues
    names = frozenset([*(exchange.name for exchange in exchanges), *(queue.name for queue in queues)])
    return Permissions(names, names | {DEFAULT_EXCHANGE}, names)


def rabbitmqctl(user: str, vhost: str, permissions: Permissions) -> list[str]:
    """Return the commands that create a user, with a random password, and grant exactly this."""
    names = map(_pattern, (permissions.configure, permissions.write, permissions.read))
    commands = [("set_permissions", "-p", vhost, user, *names)]
    for exchange, keys in sorted(permissions.routing_keys.items()):
        commands.append(("set_topic_permissions", "-p", vhost, user, exchange, _pattern(keys), ".*"))
    # A user that exists keeps its password: the command fails then, and changes nothing.
    created = f'rabbitmqctl add_user {shlex.quote(user)} "$(openssl rand -hex 32)"'
    return [created, *(shlex.join(("rabbitmqctl", *command)) for command in commands)]


def _pattern(names: Names) -> str:
    return f"^({'|'.join(map(re.escape, sorted(names)))})$" if names else "^$"
