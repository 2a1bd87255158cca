"""The command line: `pocketwatch …`. It alone knows everybody."""

import sys

import typer
from sqlalchemy.exc import DBAPIError

from pocketwatch.cli import dead, doctor, migrating, processes, runs, schedule, stack, triggering
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage.database import sqlstate

NO_SUCH_TABLE = "42P01"

app = typer.Typer(
    name="pocketwatch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Background work of a marketplace: ticks on RabbitMQ, consumers, and one log of every run.",
)

app.add_typer(stack.app, name="stack")
app.command("migrate")(migrating.migrate)
app.command("publish")(processes.publish)
app.command("consume")(processes.consume)
app.command("run")(processes.run_all)
app.command("trigger")(triggering.trigger)
app.add_typer(schedule.app, name="schedule")
app.command("runs")(runs.runs)
app.add_typer(dead.app, name="dead")
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run a command; what a person can put right is one line on standard error and exit code 1."""
    try:
        app()
    except PocketwatchError as error:
        sys.exit(f"pocketwatch: {error}")
    except DBAPIError as error:
        if sqlstate(error) == NO_SUCH_TABLE:
            sys.exit("pocketwatch: the database has no tables of ours yet; run: pocketwatch migrate")
        raise
