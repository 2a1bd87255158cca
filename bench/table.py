"""Side-by-side tables: medians, spread, memory, and how each compares with the best peer."""

import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from rich.table import Table

from bench.memory import MB
from bench.rounds import Result, ratio, share_of_limit

NONE = "-"


def machine() -> str:
    """Describe the machine."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the end"


def versions(*packages: str) -> str:
    """Return the versions of those of these packages that are installed."""
    found = []
    for package in packages:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return ", ".join(found)


def compare(
    title: str,
    results: Sequence[Result],
    *,
    caption: Sequence[str],
    count: int | None = None,
    target: float | None = None,
    of_limit: float | None = None,
) -> Table:
    """One row per contender.

    Args:
        count: messages of a run: then rates are shown, else seconds.
        target: how many times as fast as the best peer our best contender should be.
        of_limit: how many times as fast as the limit our contenders should be.
    """
    has_wall = any(result.wall for result in results)
    has_limit = any(result.contender.limit for result in results)
    table = blank(title)
    for column in ("contender", "msg/s" if count else "s", "spread", *(["wall s"] if has_wall else [])):
        table.add_column(column, justify="left" if column == "contender" else "right")
    for column in ("idle MB", "peak MB", "added MB", "x best peer", *(["x limit"] if has_limit else [])):
        table.add_column(column, justify="right")
    table.add_column("what it does", overflow="fold", ratio=1)
    for result in results:
        wall = [shown(result.wall)] if has_wall else []
        table.add_row(
            result.contender.name,
            *speeds(result, count),
            *wall,
            *memories(result),
            f"{ratio(result, results):.2f}",
            *([shown(share_of_limit(result, results))] if has_limit else []),
            result.contender.does,
            style="bold" if result.contender.ours else None,
        )
    verdicts = [verdict(results, target)] if target else []
    verdicts += [limit_verdict(results, of_limit)] if of_limit else []
    table.caption = "\n".join([*caption, machine(), *verdicts])
    return table


def blank(title: str) -> Table:
    """Return an empty table."""
    return Table(title=title, title_justify="left", caption_justify="left", header_style="bold", expand=True)


def speeds(result: Result, count: int | None) -> tuple[str, str]:
    """Return the median, and the best and worst run."""
    seconds = [sample.seconds for sample in result.samples]
    low, high = min(seconds), max(seconds)
    if count:
        return f"{count / result.seconds:,.0f}", f"{count / high:,.0f} … {count / low:,.0f}"
    return shown(result.seconds), f"{shown(low)} … {shown(high)}"


def memories(result: Result) -> tuple[str, str, str]:
    """Return resident memory before the work, at its peak, and the increase."""
    idle, peak = result.idle, result.peak
    if idle is None:
        return NONE, f"{peak / MB:.0f}", NONE
    return f"{idle / MB:.0f}", f"{peak / MB:.0f}", f"{max(peak - idle, 0) / MB:.1f}"


def shown(number: float | None) -> str:
    return NONE if number is None else f"{number:.2f}"


def verdict(results: Sequence[Result], target: float) -> str:
    """Say whether the target is met."""
    reached = max(ratio(result, results) for result in results if result.contender.ours)
    return f"target: at least {target:g} times the best peer: {judged(reached, target)}"


def limit_verdict(results: Sequence[Result], target: float) -> str:
    """Say which of our contenders are near enough to the limit."""
    shares = {
        result.contender.name: share_of_limit(result, results) or 0 for result in results if result.contender.ours
    }
    found = "; ".join(f"{name} {judged(share, target)}" for name, share in shares.items())
    return f"target: at least {target:g} times the limit: {found}"


def judged(reached: float, target: float) -> str:
    return f"{'met' if reached >= target else 'MISSED'} ({reached:.2f})"
