"""The servers of a stack: their names, their settings, and the URLs that lead to them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pocketwatch.urls import Url, parse, split

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
    return ",".join(_address(node) for node in nodes(url))


def nodes(url: str) -> list[Url]:
    """Return a URL for each node of a cluster, which is several URLs, or for PostgreSQL one URL with several hosts."""
    found = []
    for each in split(url):
        parsed = parse(each, each.partition("://")[0], several_hosts=True, without_host=True)
        found += [replace(parsed, hosts=(host,)) for host in parsed.hosts] or [parsed]
    return found


def _address(node: Url) -> str:
    if not node.hosts or node.host.startswith("/"):
        return "a local socket"
    host = f"[{node.host}]" if ":" in node.host else node.host
    return host if node.port is None else f"{host}:{node.port}"
