"""`doctor`: what is wrong with this installation."""

from dataclasses import asdict

import typer

from console.checks import all_checks
from console.cli.main import user_message
from pocketwatch.command import read_settings, run
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.terminal import AsJson, print_json, print_table


def doctor(as_json: AsJson = False) -> None:
    """Check settings, servers, versions, tables, queues, consumers and dead letters. Changes nothing.

    The exit code is 1 when there is a problem; a warning is not one.

    Example: pocketwatch doctor
    """
    findings = run(_check(read_settings()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table("doctor", ("subject", "result", "detail"), [(f.subject, f.result, f.detail) for f in findings])
    raise typer.Exit(int(any(finding.result == "problem" for finding in findings)))


async def _check(settings: Settings) -> list[Finding]:
    found: list[Finding] = []
    for subject, check in all_checks():
        try:
            async for finding in check(settings):
                found.append(finding)  # noqa: PERF401  keeps what was found before an error
        except Exception as error:
            if (message := user_message(error)) is None:
                raise
            found.append(Finding(subject, "problem", message))
    return found
