"""`doctor`: what is wrong with this installation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from console.checks import all_checks
from console.cli.main import user_message
from pocketwatch.command import read_settings, run
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.terminal import AsJson, print_json, print_table, say

Strict = Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings as well.")]
OnlyProblems = Annotated[bool, typer.Option("--problems", help="Hide the checks that are ok.")]


def doctor(strict: Strict = False, problems: OnlyProblems = False, as_json: AsJson = False) -> None:
    """Check settings, servers, tables, queues, processes, the schedule, jobs and emails. Changes nothing.

    The exit code is 1 when there is a problem; a warning is not one, unless --strict is given.

    Example: pocketwatch doctor --problems
    """
    found = run(_check(read_settings()))
    shown = [finding for finding in found if finding.result != "ok" or not problems]
    if as_json:
        print_json([asdict(finding) for finding in shown])
    else:
        if shown:
            rows = [(finding.subject, finding.result, finding.detail) for finding in shown]
            print_table("doctor", ("subject", "result", "detail"), rows)
        say(_summary(found))
    bad = {"problem", "warning"} if strict else {"problem"}
    raise typer.Exit(int(any(finding.result in bad for finding in found)))


def _summary(found: Sequence[Finding]) -> str:
    """Return the last line, such as `2 problems, 5 warnings`."""
    counts = Counter(finding.result for finding in found)
    problems, warnings = counts["problem"], counts["warning"]
    return f"{problems} problem{'' if problems == 1 else 's'}, {warnings} warning{'' if warnings == 1 else 's'}"


async def _check(settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    for subject, check in all_checks():
        try:
            async for finding in check(settings):
                found.append(finding)  # noqa: PERF401  keeps what was found before an error
        except Exception as error:
            if (message := user_message(error)) is None:
                raise
            if message not in {
                finding.detail for finding in found
            }:  # a server that is unavailable fails several checks
                found.append(Finding(subject, "problem", message))
    return found
