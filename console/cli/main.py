"""The command line: `pocketwatch …`. It alone knows everybody."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from pocketwatch.errors import PocketwatchError

# Each command is an `app` in a module of its own, or a function of this name in a module that has several.
COMMANDS: Mapping[str, str] = {
    "stack": "console.cli.stack:app",
    "migrate": "console.cli.migrate:migrate",
    "publish": "console.cli.processes:publish",
    "consume": "console.cli.processes:consume",
    "run": "console.cli.processes:run_all",
    "trigger": "console.cli.trigger:trigger",
    "schedule": "console.cli.schedule:app",
    "runs": "console.cli.runs:runs",
    "notices": "consumers.mail.notices_command:notices",
    "dead": "console.cli.dead:app",
    "archive": "consumers.maintenance.commands:app",
    "mail": "consumers.mail.commands:app",
    "moderation": "consumers.moderation.commands:app",
    "analytics": "consumers.analytics.commands:app",
    "doctor": "console.cli.doctor:doctor",
}
# What others' errors mean to an operator: SQLSTATEs, and names of classes whose import would cost every command.
MEANINGS = {
    "42P01": "{reason}; the suite's tables are made by: pocketwatch migrate",
    "55P03": "a table or row is locked by somebody else; nothing was changed, try again ({reason})",
    "42501": "the database's user lacks a right (docs/configuration.md): {reason}",
    "ChannelAccessRefused": "the broker's user lacks a right (docs/configuration.md): {reason}",
}


class Commands(TyperGroup):
    """Imports a command only when it is called: half a second that most calls do not need."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  click's signature
        """Their names, in the order of the list."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """The command of this name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(import_module(module), name)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
            alone.command(cmd_name)(found)
            found = alone
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
    """Background work of a marketplace: ticks on RabbitMQ, consumers, and one log of every run."""


def user_message(error: Exception) -> str | None:
    """One line for what a person can put right; None for anything else."""
    if isinstance(error, PocketwatchError):
        return str(error)
    drivers = getattr(error, "orig", error)
    sqlstate = getattr(drivers, "sqlstate", None)
    meaning = MEANINGS.get(sqlstate or type(error).__name__)
    return meaning and meaning.format(reason=drivers.__cause__ if sqlstate else error)


def main() -> None:
    """Run a command; what a person can put right is one line on standard error and exit code 1."""
    try:
        app()
    except Exception as error:
        if (words := user_message(error)) is None:
            raise
        sys.exit(f"pocketwatch: {words}")
