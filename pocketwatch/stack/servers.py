"""The servers of a stack: their names, their settings, and the URLs that lead to them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pocketwatch.urls import Url, parse, split

LOOPBACK = "127.0.0.1"
USER = DATABASE = VHOST = "pocketwatch"
SERVERS = ("rabbitmq", "postgres", "redis", "mail")
NODES = ("rabbitmq", "rabbitmq2", "rabbitmq3")  # of a cluster; one of them is the server, if there is no cluster
PORT_MAPPER = "epmd"  # of all nodes
LABELS = {
    "rabbitmq": "RabbitMQ",
    "rabbitmq2": "RabbitMQ 2",
    "rabbitmq3": "RabbitMQ 3",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "mail": "Mail",
    PORT_MAPPER: "RabbitMQ's port mapper",
}
PROTECTED = SERVERS[:3]  # by a password each
VARIABLES = {"rabbitmq": "RABBITMQ_URL", "postgres": "DATABASE_URL", "redis": "REDIS_URL", "mail": "SMTP_URL"}
MANAGEMENT = "RABBITMQ_MANAGEMENT_URL"


def number_of(name: str) -> str:
    """Return what the names of a node's ports end with: nothing for the first node."""
    return name.removeprefix(NODES[0]) if name in NODES else ""


def own_address(server: str, ports: Mapping[str, int]) -> str:
    """Return where clients connect to a server of the stack; empty before its first start."""
    port = ports.get(f"amqp{number_of(server)}" if server in NODES else server)
    return f"{LOOPBACK}:{port}" if port else ""


def environment(servers: Iterable[str], *, ports: Mapping[str, int], passwords: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that lead to these servers of the stack."""
    values: dict[str, str] = {}
    for server in servers:
        address, password = own_address(server, ports), passwords.get(server)
        if server in NODES:
            urls = [values["RABBITMQ_URL"]] if "RABBITMQ_URL" in values else []
            login = f"{USER}:{passwords.get(NODES[0])}"
            values["RABBITMQ_URL"] = ",".join([*urls, f"amqp://{login}@{address}/{VHOST}"])
            values.setdefault(MANAGEMENT, f"http://{login}@{LOOPBACK}:{ports['management']}")
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
