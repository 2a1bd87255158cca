"""`pocketwatch stack`: the servers of this machine."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from pocketwatch import settings
from pocketwatch.stack.servers import LABELS, NODES
from pocketwatch.stack.snapshot import ServerStatus
from pocketwatch.stack.stack import Stack
from pocketwatch.terminal import AsJson, print_json, print_table
from pocketwatch.text import printable

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Start, stop and show the servers of this machine: RabbitMQ, PostgreSQL, Redis and a mail catcher.",
)
Folder = Annotated[Path, typer.Option("--folder", help="The folder of data, logs and passwords.")]
DEFAULT_FOLDER = settings.LOCAL_STACK.parent


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes", min=1, max=len(NODES), help="RabbitMQ nodes, which make up a cluster. Default: as before, or 1."
        ),
    ] = None,
) -> None:
    """Start the servers that are not running.

    Each server comes from the first available source: its URL in the environment or in .env; a container, if Docker
    runs; a program of this machine, which is installed if it is missing and permissions suffice.

    Example: pocketwatch stack up
    """
    stack = open_stack(folder, nodes=nodes)
    stack.up()
    _show(stack.status())


@app.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete the data too.")] = False,
) -> None:
    """Stop the servers that `up` started.

    Example: pocketwatch stack down --wipe
    """
    open_stack(folder).down(wipe=wipe)
    _echo("the servers are stopped" + (", and their data is deleted" if wipe else ""))


@app.command()
def status(
    folder: Folder = DEFAULT_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Show the state of each server; the exit code is 1 if one is not ready.

    Example: pocketwatch stack status --json
    """
    servers = open_stack(folder).status()
    if as_json:
        print_json([dataclasses.asdict(server) for server in servers])
    else:
        _show(servers)
    if not all(server.ready for server in servers):
        raise typer.Exit(1)


@app.command()
def env(folder: Folder = DEFAULT_FOLDER) -> None:
    """Print the servers' addresses and passwords as NAME=value lines.

    Example: export $(pocketwatch stack env)
    """
    for name, value in open_stack(folder).env().items():
        typer.echo(f"{name}={printable(value)}")


def open_stack(folder: Path, *, nodes: int | None = None) -> Stack:
    return Stack.from_settings(folder, nodes=nodes, echo=_echo)


def _echo(line: str) -> None:
    typer.echo(printable(line), err=True)


def _show(servers: list[ServerStatus]) -> None:
    rows = [(LABELS[each.name], each.source, _yes(each.ready), each.address, each.pid, each.detail) for each in servers]
    print_table("servers", ("server", "from", "ready", "address", "process", "detail"), rows)


def _yes(ready: bool) -> str:  # noqa: FBT001
    return "yes" if ready else "no"
