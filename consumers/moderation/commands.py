"""`moderation`: replays rules on past ads, checks rule files, and shows the decisions about an ad."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from consumers.moderation.review import queries
from consumers.moderation.review.replay import MAX_SAMPLES, Replay
from consumers.moderation.review.replay import replay as replay_all
from consumers.moderation.rules.engine import RuleSet
from pocketwatch.command import database, duration_option, read_settings, run
from pocketwatch.settings import Settings
from pocketwatch.terminal import AsJson, print_json, print_table, say
from schemas.types import LARGEST_INT

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Moderation: replay and check rules, show decisions about an ad."
)

COLUMNS = ("decided_at", "action", "from_status", "to_status", "actor", "reason", "rules_version", "message_id")
NO_DECISION = "(none)"


@app.command("replay")
def replay(
    rules: Annotated[
        Path | None,
        typer.Option("--rules", help="The rule file to replay; default: the current one."),
    ] = None,
    since: Annotated[str, typer.Option(help="Replay ads changed within this time, such as 30d or 12h.")] = "30d",
    limit: Annotated[int | None, typer.Option(min=1, help="Replay at most this many ads, newest first.")] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate rules on past ads and show which verdicts would change. Read-only.

    Example: pocketwatch moderation replay --rules new-rules.toml --since 90d
    """
    settings = read_settings()
    loaded = RuleSet.load(rules or settings.moderation.rules)
    result = run(_replay(settings, loaded, since=duration_option(since, option="--since"), limit=limit))
    if as_json:
        print_json(result.as_data())
    else:
        _print(result)


async def _replay(settings: Settings, rules: RuleSet, *, since: timedelta, limit: int | None) -> Replay:
    async with database(settings, "moderation") as opened:
        return await replay_all(opened, rules, since=since, limit=limit)


def _print(result: Replay) -> None:
    data = result.as_data()
    summary = f"rules {data['rules']}: {data['changed']} of {data['ads']} verdicts would change"
    say(summary)
    verdicts = [(row["before"] or NO_DECISION, row["now"], row["ads"]) for row in data["verdicts"]]
    print_table("verdicts", ("before", "now", "ads"), verdicts)
    hits = [(row["rule"], "shadow" if row["shadow"] else "enforced", row["ads"]) for row in data["hits"]]
    print_table("matching rules", ("rule", "state", "ads"), hits)
    samples = [
        (sample["ad_id"], sample["before"] or NO_DECISION, sample["now"], " ".join(sample["reasons"]))
        for sample in data["samples"]
    ]
    print_table(f"changed verdicts, the newest {MAX_SAMPLES}", ("ad", "before", "now", "reasons"), samples)


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="The rule file to check; default: the current one.")] = None,
) -> None:
    """Check a rule file, and name each mistake with its remedy.

    Example: pocketwatch moderation check new-rules.toml
    """
    rules = RuleSet.load(file or read_settings().moderation.rules)
    shadow = sum(rule.shadow for rule in rules.rules)
    say(f"rules {rules.version}: {len(rules.rules)} rules, {shadow} of them in shadow")


@app.command("decisions")
def decisions(
    ad_id: Annotated[int, typer.Argument(min=1, max=LARGEST_INT, help="The id of the ad.")],
    as_json: AsJson = False,
) -> None:
    """Show the decisions about an ad, oldest first; with --json also the words that matched.

    Example: pocketwatch moderation decisions 4711
    """
    found = run(_decisions(read_settings(), ad_id))
    if as_json:
        print_json(found)
    else:
        rows = [[row[column] for column in COLUMNS] for row in found]
        print_table(f"decisions about ad {ad_id}", COLUMNS, rows, empty=f"no decision about ad {ad_id}, or no such ad")


async def _decisions(settings: Settings, ad_id: int) -> list[dict[str, Any]]:
    async with database(settings, "moderation") as opened, opened.begin() as connection:
        return await queries.decisions(connection, ad_id)
