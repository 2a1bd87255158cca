"""The command line, `pocketwatch …`."""

import sys
from collections.abc import Mapping
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup

from pocketwatch.errors import PocketwatchError
from pocketwatch.text import printable

# Each command is a Typer app or a function.
COMMANDS: Mapping[str, str] = {
    "stack": "console.cli.stack:app",
    "migrate": "console.cli.migrate:migrate",
    "publish": "console.cli.processes:publish",
    "consume": "console.cli.processes:consume",
    "run": "console.cli.processes:run_all",
    "web": "console.cli.web:app",
    "processes": "console.cli.presence:processes",
    "trigger": "console.cli.trigger:trigger",
    "schedule": "console.cli.schedule:app",
    "runs": "console.cli.runs:runs",
    "notices": "consumers.mail.commands:notices",
    "dead": "console.cli.dead:app",
    "archive": "consumers.maintenance.commands:app",
    "mail": "consumers.mail.commands:app",
    "moderation": "consumers.moderation.commands:app",
    "analytics": "consumers.analytics.commands:app",
    "doctor": "console.cli.doctor:doctor",
    "grants": "console.cli.grants:grants",
}
# Messages for errors of libraries, by SQLSTATE or by class name: importing the classes would slow every command down.
MESSAGES = {
    "42P01": "{reason}; to create the suite's tables, run: pocketwatch migrate",
    "55P03": "another transaction has locked a table or row, and nothing was changed; try again ({reason})",
    "42501": "the database's user lacks a right: {reason}; for what it needs, see: pocketwatch grants",
    "ChannelAccessRefused": "the broker's user lacks a right: {reason}; for what it needs, see: pocketwatch grants",
    "25006": "the database is read-only; see: pocketwatch doctor ({reason})",
    "57014": "a statement took longer than its limit; try again ({reason})",
}


class Commands(TyperGroup):
    """Imports a command only when it is called, which saves half a second."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(module), name)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        return command


app = typer.Typer(
    name="pocketwatch",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def pocketwatch() -> None:
    """Background work of a marketplace: ticks on RabbitMQ, consumers, and a log of every run."""


def user_message(error: Exception) -> str | None:
    """Return one line for an error that the user can fix; None for any other."""
    if isinstance(error, PocketwatchError):
        return str(error)
    original = getattr(error, "orig", error)
    sqlstate = getattr(original, "sqlstate", None)
    message = MESSAGES.get(sqlstate or type(error).__name__)
    return message and message.format(reason=original.__cause__ if sqlstate else error)


def main() -> None:
    """Run a command; an error that the user can fix is one line on standard error and exit code 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may have any encoding
    try:
        app()
    except Exception as error:
        if (message := user_message(error)) is None:
            raise
        sys.exit(f"pocketwatch: {printable(message)}")
