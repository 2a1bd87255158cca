"""`pocketwatch stack`: the servers on this machine."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from dotenv import dotenv_values
from rich.console import Console
from rich.table import Table

from pocketwatch import settings
from pocketwatch.stack.stack import Stack
from pocketwatch.stack.status import ServerStatus
from pocketwatch.stack.urls import LABELS

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="The servers on this machine: RabbitMQ, PostgreSQL, Redis and a mail catcher, found or started.",
)
Folder = Annotated[Path, typer.Option("--folder", help="Where data, logs and passwords are kept.")]
DEFAULT_FOLDER = settings.LOCAL_STACK.parent


@app.command()
def up(folder: Folder = DEFAULT_FOLDER) -> None:
    """Bring the servers up; those that run already are left as they are.

    Each is taken from the first of these that has it: its URL in the environment or in .env; a running Docker engine;
    programs on this machine, which are installed when they are missing and we may.

    Example: pocketwatch stack up
    """
    stack = open_stack(folder)
    stack.up()
    Console().print(_table(stack.status()))


@app.command()
def down(
    folder: Folder = DEFAULT_FOLDER,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete the data, too.")] = False,
) -> None:
    """Stop the servers that `up` started, and nothing else.

    Example: pocketwatch stack down --wipe
    """
    open_stack(folder).down(wipe=wipe)
    _say("the servers are stopped" + (", their data are deleted" if wipe else ""))


@app.command()
def status(
    folder: Folder = DEFAULT_FOLDER,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how each server is; the exit code is 1 when one is not ready.

    Example: pocketwatch stack status --json
    """
    servers = open_stack(folder).status()
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(server) for server in servers], indent=2))
    else:
        Console().print(_table(servers))
    if not all(server.ready for server in servers):
        raise typer.Exit(1)


@app.command()
def env(folder: Folder = DEFAULT_FOLDER) -> None:
    """Print the servers' addresses and passwords as NAME=value lines.

    Example: export $(pocketwatch stack env)
    """
    for name, value in open_stack(folder).env().items():
        typer.echo(f"{name}={value}")


def open_stack(folder: Path) -> Stack:
    """The stack of a folder, as commands see it."""
    return Stack(folder, given=_given(), say=_say)


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _given() -> dict[str, str]:
    """The URLs of servers that somebody else runs: what is set, but not by the stack of this folder."""
    own = dotenv_values(settings.LOCAL_STACK)
    values = settings.load().servers.model_dump(by_alias=True)
    return {name: value for name, value in values.items() if isinstance(value, str) and value != own.get(name)}


def _table(servers: list[ServerStatus]) -> Table:
    table = Table("server", "from", "ready", "address", "process", "")
    for server in servers:
        ready = "[green]yes[/]" if server.ready else "[red]no[/]"
        process = "" if server.pid is None else str(server.pid)
        table.add_row(LABELS[server.name], server.source, ready, server.address, process, server.detail)
    return table
