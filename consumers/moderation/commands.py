"""`moderation`: rules tried on ads of the past, rule files checked, and what was decided about an ad."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers.moderation.review import queries
from consumers.moderation.review.replay import SAMPLES, Replay
from consumers.moderation.review.replay import replay as replay_all
from consumers.moderation.rules.engine import RuleSet
from pocketwatch.clock import parse_duration
from pocketwatch.command import database, read_settings, run
from pocketwatch.errors import PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.terminal import (
    AsJson,
    console,
    print_json,
    print_table,
)

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Rules, and what was decided about ads.")

COLUMNS = ("decided_at", "action", "from_status", "to_status", "actor", "reason", "rules_version", "message_id")
LARGEST_ID = 2**63 - 1
NEVER = "(never judged)"


@app.command("replay")
def replay(
    rules: Annotated[
        Path | None, typer.Option("--rules", metavar="FILE", help="Another rule file than the one in force.")
    ] = None,
    since: Annotated[str, typer.Option(help="Ads that were changed within this time, such as 30d or 12h.")] = "30d",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the newest first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a rule set over past ads and show what it would decide otherwise than it was decided. Changes nothing.

    Example: pocketwatch moderation replay --rules new-rules.toml --since 90d
    """
    settings = read_settings()
    loaded = RuleSet.load(rules or settings.moderation.rules)
    found = run(_replay(settings, loaded, since=_span(since), limit=limit))
    if as_json:
        print_json(found.as_data())
    else:
        _show(found)


async def _replay(settings: Settings, rules: RuleSet, *, since: timedelta, limit: int | None) -> Replay:
    async with database(settings, "moderation") as opened:
        return await replay_all(opened, rules, since=since, limit=limit)


def _span(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise PocketwatchError(f"--since: {error}") from error


def _show(found: Replay) -> None:
    data = found.as_data()
    console.print(f"rules {data['rules']}: {data['changed']} of {data['ads']} ads would fare otherwise", soft_wrap=True)
    verdicts = [(row["before"] or NEVER, row["now"], row["ads"]) for row in data["verdicts"]]
    print_table("verdicts", ("was", "would be", "ads"), verdicts)
    hits = [(row["rule"], "shadow" if row["shadow"] else "enforced", row["ads"]) for row in data["hits"]]
    print_table("rules that fire", ("rule", "state", "ads"), hits)
    samples = [(one["ad_id"], one["before"] or NEVER, one["now"], " ".join(one["reasons"])) for one in data["samples"]]
    print_table(f"the newest that change, at most {SAMPLES}", ("ad", "was", "would be", "reasons"), samples)


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="A rule file; the one in force by default.")] = None,
) -> None:
    """Check a rule file: every mistake is named, with what would be right.

    Example: pocketwatch moderation check new-rules.toml
    """
    rules = RuleSet.load(file or read_settings().moderation.rules)
    shadow = sum(rule.shadow for rule in rules.rules)
    console.print(f"rules {rules.version}: {len(rules.rules)} rules, {shadow} of them in shadow", soft_wrap=True)


@app.command("decisions")
def decisions(
    ad_id: Annotated[int, typer.Argument(metavar="AD_ID", min=1, max=LARGEST_ID, help="The ad's id.")],
    as_json: AsJson = False,
) -> None:
    """Show what the suite has decided about an ad, oldest first; as JSON also which words did it.

    Example: pocketwatch moderation decisions 4711
    """
    found = run(_history(read_settings(), ad_id))
    if as_json:
        print_json(found)
    else:
        print_table(f"decisions about ad {ad_id}", COLUMNS, [[row[column] for column in COLUMNS] for row in found])


async def _history(settings: Settings, ad_id: int) -> list[dict[str, Any]]:
    async with database(settings, "moderation") as opened, opened.begin() as connection:
        return await queries.history(connection, ad_id)
