"""The command line, `pocketwatch …`."""

import sys
from collections.abc import Mapping
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from pocketwatch import garbage
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
    "why": "console.cli.why:why",
    "runs": "console.cli.runs:app",
    "notices": "consumers.mail.commands:notices",
    "retries": "console.cli.retries:app",
    "dead": "console.cli.dead:app",
    "archive": "consumers.maintenance.commands:app",
    "mail": "consumers.mail.commands:app",
    "moderation": "consumers.moderation.commands:app",
    "analytics": "consumers.analytics.commands:app",
    "rates": "consumers.rates.commands:app",
    "doctor": "console.cli.doctor:doctor",
    "grants": "console.cli.grants:grants",
    "docs": "console.cli.docs:app",
}
# What `--help` and completion show, without importing the command.
SUMMARIES: Mapping[str, str] = {
    "stack": "Start, stop and show the servers of this machine.",
    "migrate": "Create or upgrade the tables, exchanges and queues. Safe to repeat.",
    "publish": "Publish the ticks of the schedule and the messages of the outbox.",
    "consume": "Consume the queues of some groups, or of all.",
    "run": "Run the publishers and all consumers in one process.",
    "processes": "Show the processes of the suite.",
    "web": "Serve the console in the browser.",
    "trigger": "Start a job now, and follow its run.",
    "schedule": "The schedule: list, check, pause, resume and run entries.",
    "why": "Explain what became of a planned fire of an entry.",
    "runs": "Runs: list, show and stop them.",
    "notices": "Show the latest notices and emails with their status.",
    "retries": "Retries: list messages that wait for another attempt, and retry them now.",
    "dead": "Dead letters: list, show, edit, requeue and drop messages that are no longer retried.",
    "archive": "List archived ads, or restore one.",
    "mail": "Email: caught emails, previews, suppressed addresses.",
    "moderation": "Moderation: replay and check rules, show decisions about an ad.",
    "analytics": "Analytics: show snapshots; verify or rebuild the roll-ups.",
    "rates": "Show the currency rates, and the log of their updates.",
    "docs": "Write the message contracts: AsyncAPI and JSON schemas.",
    "doctor": "Find problems of this installation. Changes nothing.",
    "grants": "Print the commands that create a user and a role with the least rights for a process.",
}
# Messages for errors of libraries, by SQLSTATE or by class name: importing the classes would slow every command down.
MESSAGES = {
    "42P01": "{reason}; the suite's tables are created by: pocketwatch migrate; the platform's by its own migrations",
    "55P03": "another transaction has locked a table or row, and nothing was changed; try again ({reason})",
    "42501": "the database's user lacks a right: {reason}; for what it needs, see: pocketwatch grants",
    "ChannelAccessRefused": "the broker's user lacks a right: {reason}; for what it needs, see: pocketwatch grants",
    "25006": "the database is read-only; see: pocketwatch doctor ({reason})",
    "57014": "a statement took longer than its limit; try again ({reason})",
}
LINE_END, CONTINUATION = "\n", "\n  "  # what others wrote begins no line


def load(name: str) -> Any:
    """Import a command."""
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        single = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        single.command(name)(found)
        found = single
    command = typer.main.get_command(found)
    command.name = name
    return command


class Commands(TyperGroup):
    """Imports a command only when it is called: `--help` and completion need its summary only."""

    def __init__(self, **attributes: Any) -> None:
        summaries = {name: TyperCommand(name, help=SUMMARIES.get(name)) for name in COMMANDS}
        super().__init__(**attributes | {"commands": summaries})

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  click's signature
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and load(str(name)), rest


app = typer.Typer(
    name="pocketwatch",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001  typer's signature
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415  takes every command 20 ms

        typer.echo(f"pocketwatch {version('pocketwatch')}")
        raise typer.Exit


@app.callback()
def pocketwatch(
    env_file: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Read settings from this file; they override the file .env of this folder.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Background work of a marketplace: ticks on RabbitMQ, consumers, and a log of every run."""
    if env_file is not None:
        from pocketwatch.settings import use_file  # noqa: PLC0415  slow, and seldom needed here

        use_file(env_file)


def user_message(error: Exception) -> str | None:
    """Return one line for an error that the user can fix; None for any other."""
    if isinstance(error, PocketwatchError):
        return str(error)
    original = getattr(error, "orig", error)
    sqlstate = getattr(original, "sqlstate", None)
    message = MESSAGES.get(sqlstate or type(error).__name__)
    return message and message.format(reason=original.__cause__ if sqlstate else error)


def main() -> None:
    """Run a command; an error that the user can fix is a message on standard error and exit code 1."""
    garbage.collect_seldom()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal may have any encoding
    try:
        app(prog_name="pocketwatch")
    except Exception as error:
        if (message := user_message(error)) is None:
            raise
        sys.exit(f"pocketwatch: {printable(message).replace(LINE_END, CONTINUATION)}")
