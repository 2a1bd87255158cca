"""`grants`: a RabbitMQ user and a PostgreSQL role with the least rights."""

import re
from typing import Annotated

import typer

from console.cli import completion
from console.grants import MIGRATE, NAMES, PROCESSES, message_types_of, permissions_of, privileges_of
from pocketwatch.broker.connection import vhost_of
from pocketwatch.broker.permissions import rabbitmqctl
from pocketwatch.command import read_settings
from pocketwatch.errors import SettingsError
from pocketwatch.storage.privileges import statements

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def grants(
    group: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.groups,
            help=f"One of: {', '.join(NAMES)}; may be repeated; by default publishers and all consumer groups.",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The user and the role; pocketwatch_GROUP by default.")] = None,
    rabbitmq: Annotated[bool, typer.Option("--rabbitmq", help="Print only the commands for RabbitMQ.")] = False,
    postgresql: Annotated[bool, typer.Option("--postgresql", help="Print only the SQL for PostgreSQL.")] = False,
) -> None:
    """Print the commands that create a RabbitMQ user and a PostgreSQL role with the least rights. Changes nothing.

    Example: pocketwatch grants --group rates --postgresql | psql "$DATABASE_URL"
    """
    wanted = group or PROCESSES
    role = _checked(name or "_".join(["pocketwatch", *(group or [])]))
    lines: list[str] = []
    if rabbitmq or not postgresql:
        settings = read_settings()
        lines.append(f"# RabbitMQ, in a shell. Then set the password: rabbitmqctl change_password {role}")
        bridge = settings.bridge
        permissions = permissions_of(wanted, celery=bridge.celery_queue, forward=bridge.celery_forward_queue)
        lines += rabbitmqctl(role, vhost_of(settings.rabbitmq_urls[0]), permissions)
    if MIGRATE in wanted:
        lines.append("-- PostgreSQL: run migrate as the owner of the tables.")
    elif postgresql or not rabbitmq:
        lines.append(f"-- PostgreSQL, in psql, as the owner of the tables. Then set the password: \\password {role}")
        lines += statements(role, privileges_of(wanted), message_types_of(wanted))
    typer.echo("\n".join(lines))


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise SettingsError(
            f'--name is "{name}": not a valid name; use up to 63 lower-case letters, digits and underscores'
        )
    return name
