"""RabbitMQ's URLs: one for each node of a cluster."""

import re
from collections.abc import Mapping

from pocketwatch.urls.tls_files import check_parameter_files
from pocketwatch.urls.url import Url, parse_list

SCHEMES = ("amqp", "amqps")
CELERYS_SCHEME = "pyamqp"  # Celery's name of its default transport
MAX_HEARTBEAT = 65534  # seconds
# What the driver understands, and the parameters that name files.
PARAMETERS = ("heartbeat", "auth", "cafile", "capath", "certfile", "keyfile", "no_verify_ssl")
TLS_PARAMETERS = PARAMETERS[2:]
AUTH = ("plain", "amqplain", "external")


def parse_amqp(text: str) -> list[Url]:
    """Parse a URL, or a comma-separated list of URLs.

    Raises:
        ValueError: saying what is wrong, without the password.
    """
    nodes = parse_list(text, *SCHEMES)
    for node in nodes:
        _check(node)
    return nodes


def _check(node: Url) -> None:
    node.check_login()
    node.check_parameters(PARAMETERS)
    values: Mapping[str, str] = node.parameters
    heartbeat = values.get("heartbeat", "0")
    if not (heartbeat.isascii() and heartbeat.isdigit() and int(heartbeat[:6]) <= MAX_HEARTBEAT):
        raise ValueError(f"parameter heartbeat must be whole seconds up to {MAX_HEARTBEAT}; 0 switches it off")
    if values.get("auth", AUTH[0]).lower() not in AUTH:
        raise ValueError(f"parameter auth must be {', '.join(AUTH[:-1])} or {AUTH[-1]}")
    if values.get("no_verify_ssl", "0") not in {"0", "1"}:
        raise ValueError("parameter no_verify_ssl must be 0 or 1")
    if node.scheme == "amqp" and (unused := next((name for name in values if name in TLS_PARAMETERS), None)):
        raise ValueError(f"parameter {unused} has no effect without TLS; use amqps://")
    if node.parameters.get("keyfile") and not node.parameters.get("certfile"):
        raise ValueError("parameter keyfile needs certfile")


def with_standard_schemes(text: str) -> str:
    """Replace Celery's `pyamqp://`, so that one value serves as its CELERY_BROKER_URL and as RABBITMQ_URL."""
    return re.sub(rf"(^|,){CELERYS_SCHEME}://", rf"\1{SCHEMES[0]}://", text)


def check_amqp_files(text: str) -> None:
    """Load the files that the URLs name.

    Raises:
        ValueError: naming the parameter and the file that cannot be used.
    """
    for node in parse_amqp(text):
        check_parameter_files(node, authorities="cafile", folder="capath", certificate="certfile", key="keyfile")
