"""The figures of one day beside those that it is compared with, and what is missing.

A day that is not rolled up, or that a log does not reach back to, is unknown, never 0.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.report import queries
from consumers.analytics.report.queries import Day, Logged
from schemas.emails import FigureName, Gap, ReportFigure, ReportGap, ReportRate, ReportRun

HISTORY = 28  # days of the charts, the report's own included
WEEKS = 4  # previous weeks whose same weekday is the baseline
NIGHT_FROM, NIGHT_UNTIL = time(18), time(12)  # of the day, and of the one after it
RECENT = timedelta(days=7)  # of an older day, rates and runs may have been purged
SENT, FAILED = ("sent", "delivered", "read"), ("failed",)
NAMES: tuple[FigureName, ...] = get_args(FigureName)
# What the moderation log calls each.
ACTIONS: Mapping[FigureName, str] = {
    "decisions_approve": "approve",
    "decisions_needs_edit": "needs_edit",
    "decisions_reject": "reject",
    "decisions_review": "review",
    "decisions_max_attempts": "max_attempts_reached",
}

Values = Mapping[FigureName, int | None]
UNKNOWN: Values = dict.fromkeys(NAMES)


@dataclass(frozen=True, slots=True)
class DayFigures:
    """The figures of one day; None means unknown."""

    day: date
    values: Values


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """What to report.

    Args:
        currencies: whose rates the report has.
        stale_after: the age from which on a rate is old on the day.
        jobs: whose runs the report has.
    """

    day: date
    zone: ZoneInfo
    now: datetime
    currencies: Sequence[str]
    stale_after: timedelta
    jobs: Collection[str]

    @property
    def night(self) -> tuple[datetime, datetime]:
        """From the evening of the day until noon of the next, or until now."""
        since = datetime.combine(self.day, NIGHT_FROM, tzinfo=self.zone)
        until = datetime.combine(self.day + timedelta(days=1), NIGHT_UNTIL, tzinfo=self.zone)
        return since, min(until, self.now)

    @property
    def is_recent(self) -> bool:
        return self.now < closes(self.day, self.zone) + RECENT


@dataclass(frozen=True, slots=True)
class Report:
    """The collected data of a daily report.

    Args:
        history: the days of the charts, oldest first, the report's own last.
        runs: None if no log has any.
        missing_required: what is missing and should not be.
    """

    day: date
    made_at: datetime
    figures: list[ReportFigure]
    history: list[DayFigures]
    rates: list[ReportRate]
    runs: list[ReportRun] | None
    missing: list[ReportGap]
    missing_required: list[Gap]


def closes(day: date, zone: ZoneInfo) -> datetime:
    """Return the midnight after the day, by a clock in the zone."""
    return datetime.combine(day + timedelta(days=1), time(), tzinfo=zone)


async def collect(connection: AsyncConnection, request: ReportRequest) -> Report:
    """Collect everything, as of the connection's snapshot."""
    days = [request.day - timedelta(days=back) for back in range(7 * WEEKS, -1, -1)]
    found = await queries.days(connection, days[0], request.day)
    logged = await queries.logged(connection)
    history = [DayFigures(day, values(day, found.get(day), logged)) for day in days]
    figures = compare(history)
    rates = await queries.rates(connection, request.currencies, request.day, zone=request.zone.key)
    runs, gap_of_runs = await _runs(connection, request)
    missing = [*gaps(figures, logged), *gaps_of_rates(rates, request), *gap_of_runs]
    required = {"rates", "old_rates", "no_runs"} if request.is_recent else set()
    missing_required = [gap.what for gap in missing if gap.what in required]
    return Report(request.day, request.now, figures, history[-HISTORY:], rates, runs, missing, missing_required)


def values(day: date, found: Day | None, logged: Logged) -> Values:
    if found is None:
        return UNKNOWN
    known: dict[FigureName, int | None] = dict(UNKNOWN)
    known |= {"views": found.views, "new_ads": found.new_ads, "new_users": found.new_users}
    if _reaches(day, logged.runs, logged.decisions):
        known |= {name: found.decisions.get(action, 0) for name, action in ACTIONS.items()}
    if _reaches(day, logged.runs, logged.emails):
        known["letters_sent"] = sum(found.emails.get(status, 0) for status in SENT)
        known["letters_failed"] = sum(found.emails.get(status, 0) for status in FAILED)
    return known


def _reaches(day: date, *first: date | None) -> bool:
    return any(known is not None and known <= day for known in first)


def compare(history: Sequence[DayFigures]) -> list[ReportFigure]:
    """Compare the last day with the day before, and with the mean of the same weekday in the weeks before."""
    of_day, before, weekdays = history[-1].values, history[-2].values, [day.values for day in history[-8::-7]]
    return [
        ReportFigure(
            name=name,
            value=of_day[name],
            day_before=before[name],
            weekday_mean=_mean([known for week in weekdays if (known := week[name]) is not None]),
        )
        for name in NAMES
    ]


def _mean(known: Sequence[int]) -> float | None:
    return round(sum(known) / len(known), 1) if known else None


def gaps(figures: Sequence[ReportFigure], logged: Logged) -> list[ReportGap]:
    unknown = {figure.name for figure in figures if figure.value is None}
    if "views" in unknown:
        return [ReportGap(what="day")]
    missing = []
    if unknown.intersection(ACTIONS):
        missing.append(ReportGap(what="decisions", since=_first(logged.runs, logged.decisions)))
    if "letters_sent" in unknown:
        missing.append(ReportGap(what="letters", since=_first(logged.runs, logged.emails)))
    if all(figure.day_before is None and figure.weekday_mean is None for figure in figures):
        missing.append(ReportGap(what="comparison"))
    return missing


def _first(*days: date | None) -> date | None:
    return min((day for day in days if day is not None), default=None)


def gaps_of_rates(rates: Sequence[ReportRate], request: ReportRequest) -> list[ReportGap]:
    known = {rate.currency for rate in rates}
    absent = [currency for currency in request.currencies if currency not in known]
    old = [rate.currency for rate in rates if request.day - rate.rate_date > request.stale_after]
    missing = [ReportGap(what="rates", names=absent)] if absent else []
    return [*missing, ReportGap(what="old_rates", names=old)] if old else missing


async def _runs(connection: AsyncConnection, request: ReportRequest) -> tuple[list[ReportRun] | None, list[ReportGap]]:
    since, until = request.night
    oldest = await queries.oldest_run(connection)
    begins = None if oldest is None else oldest.astimezone(request.zone).date()
    if oldest is None or oldest >= until:
        return None, [ReportGap(what="runs", since=begins)]
    runs = await queries.runs(connection, request.jobs, since=since, until=until)
    if oldest > since:
        return runs, [ReportGap(what="runs", since=begins)]
    return runs, [] if runs else [ReportGap(what="no_runs")]
