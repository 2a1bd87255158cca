"""`schedule`: list, check and simulate the entries, pause, resume and run them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from console.cli import completion
from console.cli.trigger import follow
from console.operations import entries
from console.operations import schedule as operations
from console.operations.entries import Outcome
from console.operations.operator import Operator
from pocketwatch.broker.publisher import Publisher
from pocketwatch.clock import utc_now
from pocketwatch.command import current_user, database, duration_option, read_settings, run, short_timeout
from pocketwatch.errors import PocketwatchError, ServerUnreachable
from pocketwatch.settings import Settings
from pocketwatch.storage import job_summaries, pauses
from pocketwatch.storage.pauses import Pause
from pocketwatch.terminal import AsJson, print_json, print_table, say, warn
from publishers import route_check
from publishers.schedule import DEFAULT, Entry, Schedule, load
from publishers.simulation import simulate

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List, check, simulate, pause, resume and run schedule entries."
)

COLUMNS = ("name", "next", "outcome", "last", "state", "job", "cron", "timezone", "payload", "why")
FOLLOWED = timedelta(hours=1)  # how long a run is followed
File = Annotated[Path | None, typer.Option("--file", help="A schedule file, instead of the one in the settings.")]


@dataclass(frozen=True)
class Known:
    """What the database knows about the entries, by their names."""

    paused: Mapping[str, Pause] = field(default_factory=dict)
    last: Mapping[str, Sequence[Outcome]] = field(default_factory=dict)


@app.command("list")
def list_entries(file: File = None, as_json: AsJson = False) -> None:
    """Show every entry: its next fire, the outcome of the last one, and who paused it.

    Without the database, only what the schedule file says is shown.

    Example: pocketwatch schedule list
    """
    settings = read_settings()
    file = file or settings.running.schedule
    schedule = load(file)
    problem, known = None, Known()
    if settings.servers.database_url:
        try:
            known = run(_known(settings, schedule))
        except ServerUnreachable as error:
            problem = str(error)
    rows = [_row(entry, known, state="on" if problem is None else "not known") for entry in schedule.entries]
    if as_json:
        print_json(rows)
    else:
        print_table("schedule", COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
        _say_disabled(schedule, file)
    if problem is not None:
        warn(f"pauses and last fires are not known: {problem}")


def _row(entry: Entry, known: Known, *, state: str) -> dict[str, Any]:
    pause, last = known.paused.get(entry.name), next(iter(known.last.get(entry.name, ())), None)
    following = entries.following(entry, pause, utc_now())
    return {
        "name": entry.name,
        "next": following and following.astimezone(entry.timezone),
        "last": last and last.due_at,
        "outcome": last and last.status,
        "reason": last and last.reason,
        "state": "disabled" if not entry.enabled else _describe(pause) if pause else state,
        "job": entry.job,
        "cron": entry.cron,
        "timezone": entry.timezone.key,
        "payload": entry.payload,
        "catch_up": entry.catch_up,
        "why": entry.why,
    }


def _say_disabled(schedule: Schedule, file: Path | None) -> None:
    if not schedule.disabled:
        return
    where = str(file) if file else f"a copy of {DEFAULT}, and set POCKETWATCH_SCHEDULE to that file"
    names = ", ".join(entry.name for entry in schedule.disabled)
    say(f"disabled, never fires: {names}; to enable it, write enabled = true in {where}")


async def _known(settings: Settings, schedule: Schedule) -> Known:
    async with database(settings, "schedule") as opened, opened.begin() as connection:
        names = [entry.name for entry in schedule.entries]
        return Known(await pauses.in_force(connection), await entries.last_outcomes(connection, names, size=1))


def _describe(pause: Pause) -> str:
    until = f"{pause.expires_at:%Y-%m-%d %H:%M} UTC" if pause.expires_at else "it is resumed"
    return f"paused by {pause.author} until {until}: {pause.reason}"


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

    With a database, also name entries that fire again before their previous run has usually ended.

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
        say(f"{name} fires again before its previous run has usually ended", style="yellow")


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
    reason: Annotated[str, typer.Option(help="The reason; shown in the schedule.")],
    expires: Annotated[
        str | None, typer.Option("--for", help="How long, such as 6h or 2d; by default until the entry is resumed.")
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
    verb = "is paused" if before is None else "was already paused; it is now paused"
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
    """Publish the message of an entry now, with its payload. Its schedule does not change.

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
