"""`analytics`: show results, verify and rebuild the roll-ups."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from rich.progress import Progress

from consumers.analytics.quick_stats import Figures
from consumers.analytics.rollup import rollup
from consumers.analytics.rollup import verify as verifying
from consumers.analytics.rollup.verify import Verified
from consumers.analytics.transactions import retry_when_busy
from pocketwatch.command import current_user, database, one_of, read_settings, run
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.storage import operator_actions
from pocketwatch.terminal import (
    AsJson,
    bars,
    console,
    print_json,
    print_table,
    say,
)
from schemas.locale import LOCALES

app = typer.Typer(add_completion=False, no_args_is_help=True)

KINDS = ("quick_stats", "platform", "daily_report")
FIGURES = tuple(Figures.__dataclass_fields__)
SHOWN = 10  # rows of a table that are shown to people
NEWEST = sa.text("""
    SELECT kind, locale, period, payload, generated_at, expires_at FROM analytics_snapshots
    WHERE kind = :kind AND (locale IS NULL OR locale = :locale) ORDER BY period DESC, generated_at DESC LIMIT 48
""")


@app.callback()
def analytics() -> None:
    """Analytics: show snapshots; verify or rebuild the roll-ups."""


@app.command("show")
def show(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.")] = "quick_stats",
    locale: Annotated[str, typer.Option(help=f"The language: {', '.join(LOCALES)}.")] = "uk",
    as_json: AsJson = False,
) -> None:
    """Show the newest snapshot of a kind.

    Example: pocketwatch analytics show platform --locale en
    """
    one_of(kind, KINDS, option="kind")
    one_of(locale, LOCALES, option="--locale")
    snapshots = run(_newest(read_settings(), kind, locale))
    if not snapshots:
        raise PocketwatchError(f"snapshot {kind}: not made yet; run: pocketwatch trigger analytics.{kind} --wait")
    snapshot, history = snapshots[0], [past["payload"] for past in reversed(snapshots)]
    if as_json:
        print_json(snapshot)
        return
    try:
        tables = list(_tables(kind, snapshot["payload"], history))
    except (AttributeError, KeyError, TypeError) as error:
        raise PocketwatchError(
            f"snapshot {kind} of {snapshot['period']}: made by another version; use --json"
        ) from error
    say(f"{kind} of {snapshot['period']}, made at {snapshot['generated_at']:%Y-%m-%d %H:%M:%S} UTC")
    for title, columns, rows in tables:
        say("")
        print_table(title, columns, rows)


async def _newest(settings: Settings, kind: str, locale: str) -> list[dict[str, Any]]:
    async with database(settings, "analytics") as opened, opened.begin() as connection:
        found = await connection.execute(NEWEST, {"kind": kind, "locale": locale})
        return [dict(row) for row in found.mappings()]


@app.command("verify")
def verify(
    sample: Annotated[int, typer.Option(min=1, max=100_000, help="How many id ranges, and how many days.")] = 50,
    every: Annotated[bool, typer.Option("--all", help="Compare everything.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the roll-ups with the rows that they were counted from; exit code 1 when they differ.

    Example: pocketwatch analytics verify --sample 200
    """
    found = run(_verify(read_settings(), None if every else sample))
    if as_json:
        print_json(asdict(found))
    else:
        say(f"{found.id_ranges} id ranges and {found.days} days compared, {len(found.differences)} differences")
        if found.differences:
            rows = [[each.what, each.where, each.rolled_up, each.there] for each in found.differences]
            print_table("differences", ("figure", "where", "rolled up", "in rows"), rows)
    if found.differences:
        raise typer.Exit(1)


async def _verify(settings: Settings, sample: int | None) -> Verified:
    async with database(settings, "analytics") as opened:
        with retry_when_busy():
            return await verifying.verify(opened, settings, sample=sample)


@app.command("rebuild")
def rebuild(
    actor: Annotated[str | None, typer.Option(help="The operator; your user name by default.")] = None,
) -> None:
    """Count all roll-ups again; jobs may run meanwhile.

    Example: pocketwatch analytics rebuild
    """
    done = run(_rebuild(read_settings(), actor=actor or current_user(option="--actor")))
    say(" ".join(f"{name}={count}" for name, count in done.items()))


async def _rebuild(settings: Settings, *, actor: str) -> dict[str, int]:
    async with database(settings, "analytics") as opened:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("counting", total=1.0)

            async def show_progress(share: float, **_: int) -> None:
                bar.update(task, completed=share)

            with retry_when_busy():
                done = await rollup.rebuild(opened, settings, progress=show_progress)
        async with opened.begin() as connection:
            await operator_actions.record(
                connection, actor=actor, source="cli", action="analytics.rebuild", target="roll-ups", after=done
            )
        return done


Tables = Iterator[tuple[str, Sequence[str], list[list[object]]]]


def _tables(kind: str, payload: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Tables:
    if kind == "quick_stats":
        yield (
            "figures",
            ("figure", "now", "trend"),
            [[name, payload[name], sparkline([past.get(name) for past in history])] for name in FIGURES],
        )
    elif kind == "platform":
        yield from _platform(payload)
    else:
        yield from _report(payload)


def _platform(payload: Mapping[str, Any]) -> Tables:
    yield "overview", ("figure", "value"), [[name, payload["overview"][name]["text"]] for name in FIGURES]
    yield "makes", ("make", "active ads"), [[row["make"], row["text"]] for row in payload["top_makes"][:SHOWN]]
    yield "regions", ("region", "active ads"), [[row["name"], row["text"]] for row in payload["regions"][:SHOWN]]
    yield (
        "prices",
        ("make", "ads", "lower quartile", "median", "upper quartile"),
        [[row["make"], row["text"], *row["texts"]] for row in payload["prices"][:SHOWN]],
    )
    lately = payload["lately"]
    ads, views = [day["ads"] for day in lately["by_day"]], [day["views"] for day in lately["views_by_day"]]
    yield (
        f"since {lately['since']}",
        ("figure", "all", "by day"),
        [["new ads", lately["ads"]["text"], sparkline(ads)], ["views", lately["views"]["text"], sparkline(views)]],
    )
    yield "by status", ("status", "ads"), [[row["label"], row["text"]] for row in payload["ads_by_status"]]
    funnel = payload["funnel"]
    yield (
        "from submitted to active",
        ("submitted", "decided", "active", "median time"),
        [[*(funnel[name]["text"] for name in ("submitted", "decided", "active")), funnel["median_time"]["text"]]],
    )
    yield (
        "rates",
        ("currency", "UAH", "of", "source"),
        [[row["currency"], row["text"], row["rate_date"], row["source"]] for row in payload["rates"]],
    )


def _report(payload: Mapping[str, Any]) -> Tables:
    """Yield the tables; unknown figures are question marks."""
    lately = {name: [day[name] for day in payload["lately"]] for name in (row["name"] for row in payload["figures"])}
    yield (
        f"figures of {payload['day']}",
        ("figure", "the day", "the day before", "", "mean of 4 same weekdays", "", "28 days"),
        [
            [row["label"], *(_known(row["texts"][name]) for name in COLUMNS), sparkline(lately[row["name"]])]
            for row in payload["figures"]
        ],
    )
    yield (
        "rates",
        ("currency", "UAH", "change", "of", "source"),
        [
            [row["currency"], row["texts"]["rate"], _known(row["texts"]["change"]), row["rate_date"], row["source"]]
            for row in payload["rates"]
        ],
    )
    yield (
        "runs of the night",
        ("job", "runs", "partial", "failed", "dead", "seconds"),
        [
            [row[name] for name in ("job", "runs", "partial", "failed", "dead", "seconds")]
            for row in payload["runs"] or ()
        ],
    )
    yield (
        "missing",
        ("what", "names", "known since"),
        [[gap["label"], ", ".join(gap["names"]), gap["since"] or ""] for gap in payload["missing"]],
    )


COLUMNS = ("value", "day_before", "change", "weekday_mean", "change_to_usual")


def _known(text: str | None) -> str:
    return "?" if text is None else text


def sparkline(values: Sequence[float | None]) -> str:
    """Draw numbers as small bars; a missing one is a blank."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    low, span = min(known), (max(known) - min(known)) or 1
    heights = bars()
    return "".join(
        " " if value is None else heights[int((value - low) / span * (len(heights) - 1))] for value in values
    )
