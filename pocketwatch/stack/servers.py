"""The servers of a stack: their names, their settings, and the URLs that lead to them."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
USER = DATABASE = VHOST = "pocketwatch"
LABELS = {"rabbitmq": "RabbitMQ", "postgres": "PostgreSQL", "redis": "Redis", "mail": "Mail"}
SERVERS = tuple(LABELS)
PROTECTED = SERVERS[:3]  # by a password each
VARIABLES = {"rabbitmq": "RABBITMQ_URL", "postgres": "DATABASE_URL", "redis": "REDIS_URL", "mail": "SMTP_URL"}
MANAGEMENT = "RABBITMQ_MANAGEMENT_URL"
MAIN_PORTS = {"rabbitmq": "amqp", "postgres": "postgres", "redis": "redis", "mail": "mail"}


def own_address(server: str, ports: Mapping[str, int]) -> str:
    """Return where clients connect to a server of the stack; empty before its first start."""
    port = ports.get(MAIN_PORTS[server])
    return f"{LOOPBACK}:{port}" if port else ""


def environment(servers: Iterable[str], *, ports: Mapping[str, int], passwords: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that lead to these servers of the stack."""
    values = {}
    for server in servers:
        address, password = own_address(server, ports), passwords.get(server)
        if server == "rabbitmq":
            values["RABBITMQ_URL"] = f"amqp://{USER}:{password}@{address}/{VHOST}"
            values[MANAGEMENT] = f"http://{USER}:{password}@{LOOPBACK}:{ports['management']}"
        elif server == "postgres":
            values["DATABASE_URL"] = f"postgresql://{USER}:{password}@{address}/{DATABASE}"
        elif server == "redis":
            values["REDIS_URL"] = f"redis://:{password}@{address}/0"
        else:
            values["SMTP_URL"] = f"smtp://{address}"
    return values


def address(url: str) -> str:
    """Return the hosts and ports of a URL, without user and password."""
    return ",".join(urlsplit(part).netloc.rpartition("@")[2] or "a local socket" for part in split_hosts(url))


def split_hosts(url: str) -> list[str]:
    """Return a URL for each node of a cluster, which is several URLs, or for PostgreSQL one URL with several hosts."""
    scheme = url.partition("://")[0]
    return [part if "://" in part else f"{scheme}://{part}" for part in url.split(",")]
