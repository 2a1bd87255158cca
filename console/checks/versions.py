"""The oldest versions of servers that the suite works with."""

from pocketwatch.monitoring.finding import Finding

Version = tuple[int, int]

OLDEST_RABBITMQ, OLDEST_POSTGRESQL, OLDEST_REDIS = (3, 10), (14, 0), (5, 0)


def check_version(name: str, version: Version, oldest: Version) -> Finding:
    shown = ".".join(map(str, version))
    if version < oldest:
        return Finding(name, "problem", f"version {shown}; at least {'.'.join(map(str, oldest))} is needed")
    return Finding(name, "ok", f"version {shown}")
