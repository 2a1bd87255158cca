"""The versions of servers that the suite works with, and those that its tests run on."""

from dataclasses import dataclass

from pocketwatch.monitoring.finding import Finding

Version = tuple[int, int]


@dataclass(frozen=True)
class Supported:
    """The versions of one server.

    Args:
        oldest: older ones lack what the suite needs.
        tested: the whole test suite runs on these.
    """

    server: str
    oldest: Version
    tested: tuple[str, ...]

    def check(self, version: Version) -> Finding:
        if version < self.oldest:
            return Finding(self.server, "problem", f"version {shown(version)}; at least {shown(self.oldest)} is needed")
        return Finding(self.server, "ok", f"version {shown(version)}; tested on {', '.join(self.tested)}")


def shown(version: Version) -> str:
    return ".".join(map(str, version))


RABBITMQ = Supported("RabbitMQ", (3, 10), ("3.10", "4.0"))
POSTGRESQL = Supported("PostgreSQL", (14, 0), ("15", "17"))
REDIS = Supported("Redis", (5, 0), ("7", "8"))
