"""The figures of one day, each beside those that it is compared with, and what nobody knows.

A day that is not rolled up has no figures, and a log that does not reach back to a day says nothing of it: that is
unknown, and never none.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import get_args
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.analytics.report import queries
from consumers.analytics.report.queries import Day, Logged
from schemas.emails import (
    FigureName,
    Gap,
    ReportFigure,
    ReportGap,
    ReportRate,
    ReportRun,
)

SHOWN = 28  # days of the charts, the report's own included
WEEKS = 4  # before, whose same weekday is what is usual
NIGHT_FROM, NIGHT_UNTIL = time(18), time(12)  # of the day, and of the one after it
LATELY = timedelta(days=7)  # of a day longer ago, rates and runs may rightly be gone
SENT, FAILED = ("sent", "delivered", "read"), ("failed",)
NAMES: tuple[FigureName, ...] = get_args(FigureName)

Values = Mapping[FigureName, int | None]
UNKNOWN: Values = dict.fromkeys(NAMES)


@dataclass(frozen=True, slots=True)
class Past:
    """The report's day, or one before it; None where nobody knows."""

    day: date
    values: Values


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is asked for.

    Args:
        now: the moment at which it is made.
        currencies: whose rates are wanted.
        stale_after: a rate that is older than that on the day is old.
        jobs: whose runs are told.
    """

    day: date
    zone: ZoneInfo
    now: datetime
    currencies: Sequence[str]
    stale_after: timedelta
    jobs: Collection[str]

    @property
    def night(self) -> tuple[datetime, datetime]:
        """From the evening of the day to the noon after it, or to this moment."""
        since = datetime.combine(self.day, NIGHT_FROM, tzinfo=self.zone)
        until = datetime.combine(self.day + timedelta(days=1), NIGHT_UNTIL, tzinfo=self.zone)
        return since, min(until, self.now)

    @property
    def is_recent(self) -> bool:
        """What is missing of such a day should be there."""
        return self.now < closes(self.day, self.zone) + LATELY


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a day.

    Args:
        lately: the days of the charts, oldest first, the last one the report's own.
        runs: None where no log knows of them.
        lacking: what is missing although it should be there.
    """

    day: date
    made_at: datetime
    figures: list[ReportFigure]
    lately: list[Past]
    rates: list[ReportRate]
    runs: list[ReportRun] | None
    missing: list[ReportGap]
    lacking: list[Gap]


def closes(day: date, zone: ZoneInfo) -> datetime:
    """The moment at which the day is over: the midnight after it, by a clock in the zone."""
    return datetime.combine(day + timedelta(days=1), time(), tzinfo=zone)


async def collect(connection: AsyncConnection, question: Question) -> Report:
    """Everything, as of the connection's moment."""
    found = await queries.days(connection, question.day - timedelta(days=7 * WEEKS), question.day)
    logged = await queries.logged(connection)
    lately = [
        Past(day, values(day, found.get(day), logged))
        for day in (question.day - timedelta(days=back) for back in range(7 * WEEKS, -1, -1))
    ]
    figures = compare(lately)
    rates = await queries.rates(connection, question.currencies, question.day, zone=question.zone.key)
    runs, gap_of_runs = await _runs(connection, question)
    missing = [*gaps(figures, logged), *gaps_of_rates(rates, question), *gap_of_runs]
    wanted = {"rates", "old_rates", "no_runs"} if question.is_recent else set()
    lacking = [gap.what for gap in missing if gap.what in wanted]
    return Report(question.day, question.now, figures, lately[-SHOWN:], rates, runs, missing, lacking)


def values(day: date, found: Day | None, logged: Logged) -> Values:
    """The figures of a day."""
    if found is None:
        return UNKNOWN
    known: dict[FigureName, int | None] = dict(UNKNOWN)
    known |= {"views": found.views, "new_ads": found.new_ads, "new_users": found.new_users}
    if _reaches(day, logged.runs, logged.decisions):
        known |= {name: found.decisions.get(action, 0) for name, action in ACTIONS.items()}
    if _reaches(day, logged.runs, logged.letters):
        known["letters_sent"] = sum(found.letters.get(status, 0) for status in SENT)
        known["letters_failed"] = sum(found.letters.get(status, 0) for status in FAILED)
    return known


# What the moderation writes down of each.
ACTIONS: Mapping[FigureName, str] = {
    "decisions_approve": "approve",
    "decisions_needs_edit": "needs_edit",
    "decisions_reject": "reject",
    "decisions_review": "review",
    "decisions_max_attempts": "max_attempts_reached",
}
DECISIONS = tuple(ACTIONS)


def _reaches(day: date, *first: date | None) -> bool:
    return any(known is not None and known <= day for known in first)


def compare(lately: Sequence[Past]) -> list[ReportFigure]:
    """The last day's figures beside the day before, and the mean of the same weekday of the weeks before."""
    of_day, before, weekdays = lately[-1].values, lately[-2].values, [past.values for past in lately[-8::-7]]
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
    """What is missing of the figures."""
    unknown = {figure.name for figure in figures if figure.value is None}
    if "views" in unknown:
        return [ReportGap(what="day")]
    missing = []
    if unknown.intersection(DECISIONS):
        missing.append(ReportGap(what="decisions", since=_first(logged.runs, logged.decisions)))
    if "letters_sent" in unknown:
        missing.append(ReportGap(what="letters", since=_first(logged.runs, logged.letters)))
    if all(figure.day_before is None and figure.weekday_mean is None for figure in figures):
        missing.append(ReportGap(what="comparison"))
    return missing


def _first(*days: date | None) -> date | None:
    return min((day for day in days if day is not None), default=None)


def gaps_of_rates(rates: Sequence[ReportRate], question: Question) -> list[ReportGap]:
    """Currencies without a rate, and with one that was old on the day."""
    known = {rate.currency for rate in rates}
    absent = [currency for currency in question.currencies if currency not in known]
    old = [rate.currency for rate in rates if question.day - rate.rate_date > question.stale_after]
    missing = [ReportGap(what="rates", names=absent)] if absent else []
    return [*missing, ReportGap(what="old_rates", names=old)] if old else missing


async def _runs(connection: AsyncConnection, question: Question) -> tuple[list[ReportRun] | None, list[ReportGap]]:
    since, until = question.night
    oldest = await queries.oldest_run(connection)
    begins = None if oldest is None else oldest.astimezone(question.zone).date()
    if oldest is None or oldest >= until:
        return None, [ReportGap(what="runs", since=begins)]
    runs = await queries.runs(connection, question.jobs, since=since, until=until)
    if oldest > since:
        return runs, [ReportGap(what="runs", since=begins)]
    return runs, [] if runs else [ReportGap(what="no_runs")]
