"""`schedule`: list, check and simulate the entries, pause, resume and run them."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from console.cli import completion
from console.cli.trigger import follow
from console.operations import schedule as operations
from console.operations.operator import Operator
from pocketwatch.broker.publisher import Publisher
from pocketwatch.clock import utc_now
from pocketwatch.command import current_user, database, duration_option, read_settings, run, short_timeout
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import job_summaries, pauses
from pocketwatch.terminal import AsJson, print_json, print_table, say
from publishers import route_check
from publishers.cron import next_fire
from publishers.schedule import DEFAULT, Entry, Schedule, load
from publishers.simulation import simulate

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List, check, simulate, pause, resume and run schedule entries."
)

FOLLOWED = timedelta(hours=1)  # how long a run is followed
File = Annotated[Path | None, typer.Option("--file", help="A schedule file other than that of the settings.")]


@app.command("list")
def list_entries(file: File = None, as_json: AsJson = False) -> None:
    """Show every entry and its next fire.

    Example: pocketwatch schedule list
    """
    settings = read_settings()
    file = file or settings.running.schedule
    schedule = load(file)
    paused = run(_paused(settings)) if settings.servers.database_url else {}
    rows = [_row(entry, paused.get(entry.name)) for entry in schedule.entries]
    if as_json:
        print_json(rows)
    else:
        columns = ("name", "job", "cron", "timezone", "next", "payload", "state", "why")
        print_table("schedule", columns, [[row[column] for column in columns] for row in rows])
        _say_disabled(schedule, file)


def _row(entry: Entry, pause: str | None) -> dict[str, Any]:
    following = next_fire(entry, utc_now())
    state = "disabled" if not entry.enabled else pause or "on"
    return {
        "name": entry.name,
        "job": entry.job,
        "cron": entry.cron,
        "timezone": entry.timezone.key,
        "next": following.astimezone(entry.timezone) if following and entry.enabled else None,
        "payload": entry.payload,
        "catch_up": entry.catch_up,
        "state": state,
        "why": entry.why,
    }


def _say_disabled(schedule: Schedule, file: Path | None) -> None:
    if not schedule.disabled:
        return
    where = str(file) if file else f"a copy of {DEFAULT}, and set POCKETWATCH_SCHEDULE to that file"
    names = ", ".join(entry.name for entry in schedule.disabled)
    say(f"disabled, never fires: {names}; to enable it, write enabled = true in {where}")


async def _paused(settings: Settings) -> dict[str, str]:
    async with database(settings, "schedule") as opened, opened.begin() as connection:
        found = await pauses.in_force(connection)
    return {name: _describe(row) for name, row in found.items()}


def _describe(pause: Any) -> str:
    until = f" until {pause.expires_at:%Y-%m-%d %H:%M} UTC" if pause.expires_at else ""
    return f"paused by {pause.author}{until}: {pause.reason}"


@app.command("check")
def check(file: File = None, as_json: AsJson = False) -> None:
    """Check that each entry has a job that accepts the payload, a bound queue and a consumer.

    The exit code is 1 when an entry cannot fire; a missing consumer is a warning, because it may start later.

    Example: pocketwatch schedule check --file /etc/pocketwatch/schedule.toml
    """
    settings = read_settings()
    file = file or settings.running.schedule
    schedule = load(file)
    found = run(_routes(settings, schedule))
    rows = [_result(route) for route in found]
    if as_json:
        print_json(rows)
    else:
        columns = ("name", "job", "queue", "consumers", "result", "problem")
        print_table("routes", columns, [[row[column] for column in columns] for row in rows])
        _say_disabled(schedule, file)
    raise typer.Exit(int(any(row["result"] == "problem" for row in rows)))


async def _routes(settings: Settings, schedule: Schedule) -> list[route_check.Route]:
    async with Publisher(settings.rabbitmq_urls, role="check", startup_timeout=short_timeout(settings)) as publisher:
        return await route_check.check_routes(publisher.connection, schedule.enabled)


def _result(route: route_check.Route) -> dict[str, Any]:
    result = "problem" if route.consumers is None else "ok" if route.consumers else "warning"
    return {
        "name": route.entry.name,
        "job": route.entry.job,
        "queue": route.queue,
        "consumers": route.consumers,
        "result": result,
        "problem": route.problem,
    }


@app.command("simulate")
def simulate_entries(
    days: Annotated[int, typer.Option(min=1, max=3660, help="How many days from now.")] = 365,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Simulate the schedule: how often each entry fires, clock changes, collisions, and entries that never fire.

    With a database, entries that fire again before their job is usually done are named, too.

    Example: pocketwatch schedule simulate --days 30
    """
    settings = read_settings()
    schedule, now = load(file or settings.running.schedule), utc_now()
    found = simulate(schedule.entries, after=now, until=now + timedelta(days=days))
    usual = run(_usual(settings, schedule)) if settings.servers.database_url else {}
    dense = found.denser_than(usual)
    if as_json:
        lines = {"never": found.never, "denser_than_their_runs": dense}
        print_json(asdict(found) | lines)
        return
    rows = [
        (each.entry, each.count, each.first, each.shortest_interval, dense.get(each.entry)) for each in found.entries
    ]
    print_table(f"fires of {days} days", ("entry", "fires", "first", "shortest interval", "usual run (s)"), rows)
    changes = [(each.entry, each.at, each.moved, each.policy, _times(each.fires)) for each in found.clock_changes]
    if changes:
        print_table("clock changes", ("entry", "at", "clocks move by", "policy", "local fires near it"), changes)
    if found.collisions:
        together = [(each.job, ", ".join(each.entries), each.count, each.first) for each in found.collisions]
        print_table("due at the same moment", ("queue", "entries", "times", "first"), together)
    busiest = [(job, hour, count) for job, (hour, count) in sorted(found.busiest.items())]
    print_table("busiest hour of each queue", ("queue", "hour", "fires"), busiest)
    for name in found.never:
        say(f"{name} never fires within {days} days", style="red")
    for name in dense:
        say(f"{name} fires again before its job is usually done", style="yellow")


def _times(fires: Iterable[datetime]) -> str:
    return ", ".join(f"{each:%H:%M}" for each in fires)


async def _usual(settings: Settings, schedule: Schedule) -> dict[str, float | None]:
    jobs = sorted({entry.job for entry in schedule.enabled})
    async with database(settings, "schedule") as opened, opened.begin() as connection:
        summaries = await job_summaries.of_jobs(connection, jobs)
    return {job: summary.p95_duration for job, summary in summaries.items()}


@app.command("pause")
def pause(
    entry: Annotated[str, typer.Argument(autocompletion=completion.entries, help="The entry's name.")],
    reason: Annotated[str, typer.Option(help="Why; shown to everyone who lists the schedule.")],
    expires: Annotated[
        str | None, typer.Option("--for", help="How long, such as 6h or 2d; until it is resumed by default.")
    ] = None,
    author: Annotated[str | None, typer.Option(help="Who pauses it; your user name by default.")] = None,
) -> None:
    """Pause an entry. When the pause ends, catch_up decides which missed fires are published.

    Example: pocketwatch schedule pause clean-generated-media-weekly --for 2d --reason "disk is being moved"
    """
    settings = read_settings()
    load(settings.running.schedule).entry(entry)
    if not reason.strip():
        raise PocketwatchError("--reason is empty; give a reason")
    lasts = None if expires is None else duration_option(expires, option="--for")
    operator = Operator(author or current_user(option="--author"), "cli", reason)
    before = run(_change(settings, lambda db: operations.pause(db, entry, lasts=lasts, operator=operator)))
    verb = "is paused" if before is None else "was paused already and stays so"
    until = "" if lasts is None else f" until {utc_now() + lasts:%Y-%m-%d %H:%M} UTC"
    say(f"{entry} {verb}{until}")


@app.command("resume")
def resume(
    entry: Annotated[str, typer.Argument(autocompletion=completion.entries, help="The entry's name.")],
    author: Annotated[str | None, typer.Option(help="Who resumes it; your user name by default.")] = None,
) -> None:
    """End the pause of an entry.

    Example: pocketwatch schedule resume clean-generated-media-weekly
    """
    settings = read_settings()
    load(settings.running.schedule).entry(entry)
    operator = Operator(author or current_user(option="--author"), "cli")
    run(_change(settings, lambda db: operations.resume(db, entry, operator=operator)))
    say(f"{entry} is resumed")


@app.command("run")
def run_now(
    entry: Annotated[str, typer.Argument(autocompletion=completion.entries, help="The entry's name.")],
    wait: Annotated[bool, typer.Option("--wait", help="Follow the run; its outcome is the exit code.")] = False,
    author: Annotated[str | None, typer.Option(help="Who runs it; your user name by default.")] = None,
) -> None:
    """Publish the message of an entry now, with its payload. Its timetable goes on as before.

    Example: pocketwatch schedule run clean-generated-media-weekly --wait
    """
    settings = read_settings()
    known = load(settings.running.schedule).entry(entry)
    operator = Operator(author or current_user(option="--author"), "cli")
    message_id = run(_run_now(settings, known, operator))
    say(f"published {known.job} as {message_id}")
    if wait:
        raise typer.Exit(run(follow(settings, message_id, FOLLOWED)))


async def _run_now(settings: Settings, entry: Entry, operator: Operator) -> str:
    timeout = short_timeout(settings)
    async with (
        database(settings, "schedule") as opened,
        Publisher(settings.rabbitmq_urls, role="schedule", startup_timeout=timeout) as publisher,
    ):
        return await operations.run_entry(publisher, opened, entry, operator=operator)


async def _change(settings: Settings, change: Any) -> Any:
    async with database(settings, "schedule") as opened:
        return await change(opened)
