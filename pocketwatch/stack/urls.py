"""What the servers are called: by people, by the settings that take their URLs, and by those URLs."""

from collections.abc import Iterable, Mapping

from pocketwatch.stack.ports import LOOPBACK
from pocketwatch.stack.probes import USER

LABELS = {"rabbitmq": "RabbitMQ", "postgres": "PostgreSQL", "redis": "Redis", "mail": "Mail"}
VARIABLES = {"rabbitmq": "RABBITMQ_URL", "postgres": "DATABASE_URL", "redis": "REDIS_URL", "mail": "SMTP_URL"}
MANAGEMENT = "RABBITMQ_MANAGEMENT_URL"
DATABASE = VHOST = "pocketwatch"
MAIN_PORTS = {"rabbitmq": "amqp", "postgres": "postgres", "redis": "redis", "mail": "mail"}


def main_port(server: str, ports: Mapping[str, int]) -> int | None:
    """The port that clients connect to; None before the first start."""
    return ports.get(MAIN_PORTS[server])


def environment(servers: Iterable[str], *, ports: Mapping[str, int], passwords: Mapping[str, str]) -> dict[str, str]:
    """The settings that lead to these servers."""
    values = {}
    for server in servers:
        if server == "mail":  # the only one that asks nobody for a password
            values["SMTP_URL"] = f"smtp://{LOOPBACK}:{main_port(server, ports)}"
            continue
        at = f"{passwords[server]}@{LOOPBACK}:{main_port(server, ports)}"
        if server == "rabbitmq":
            values["RABBITMQ_URL"] = f"amqp://{USER}:{at}/{VHOST}"
            values[MANAGEMENT] = f"http://{USER}:{passwords[server]}@{LOOPBACK}:{ports['management']}"
        elif server == "postgres":
            values["DATABASE_URL"] = f"postgresql://{USER}:{at}/{DATABASE}"
        else:
            values["REDIS_URL"] = f"redis://:{at}/0"
    return values
