"""Report the last closed day: store it, and email it to the managers who want it.

A report requested again is made again; each reader is sent one email per day reported.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from consumers.analytics import django_cache, snapshots
from consumers.analytics.report import figures, queries
from consumers.analytics.report.figures import Report, ReportRequest, closes
from consumers.analytics.report.payload import django_payload, payload
from consumers.analytics.report.queries import AdsOfDay, LogEntry, Reader
from consumers.analytics.rollup import daily_activity, rollup
from consumers.analytics.transactions import retry_when_busy, snapshot
from consumers.analytics.zone import check_zone
from pocketwatch.errors import Reject
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas import emails
from schemas.catalogue import CATALOGUE
from schemas.locale import LOCALES
from schemas.mail import MailRequested, parse_address
from schemas.message import Tick
from schemas.ticks import DailyReport

EARLIEST = date(1970, 1, 1)
KEPT_FOR = timedelta(days=400)
LONGEST_KEY = 600  # characters, of `MailRequested`
# Events come in thousands and are not runs of the night; neither is this report.
JOBS = [key for key, message in CATALOGUE.items() if issubclass(message, Tick) and message is not DailyReport]


@consumer(lifespan=check_zone)
async def report_day(tick: DailyReport, job: JobContext) -> None:
    zone = ZoneInfo(job.settings.site.timezone)
    day = closed_day(tick, job, zone)
    with retry_when_busy():
        if not await rollup.bring_up_to_date(job):
            return job.continue_with(DailyReport(day=day))
        report, ads, readers = await collect(day, zone, job)
        await store(report, ads, job)
        await request_emails(report, readers, job)
    job.record(day=str(day), missing=[gap.what for gap in report.missing])
    if report.missing_required:
        job.mark_partial(f"missing in the report of {day}: {', '.join(report.missing_required)}")
    return None


def closed_day(tick: DailyReport, job: JobContext, zone: ZoneInfo) -> date:
    """Return the day to report.

    Raises:
        Reject: if it is not over, with the time at which it will be, or out of range.
    """
    day = tick.day or daily_activity.last_closed(job.due_at, zone.key)
    if day < EARLIEST:
        raise Reject(f"day {day}: out of range; use a closed day from {EARLIEST} on")
    closing = closes(day, zone)
    if closing > job.now:
        raise Reject(f"day {day}: not over; request its report after {closing.isoformat()} ({zone.key})")
    return day


async def collect(day: date, zone: ZoneInfo, job: JobContext) -> tuple[Report, AdsOfDay | None, list[Reader]]:
    """Collect the figures, what only Django's cache has, and the readers, as of one moment."""
    rates = job.settings.rates
    request = ReportRequest(day, zone, job.now, rates.currencies, rates.stale_after, JOBS)
    async with snapshot(job.transaction) as connection:
        report = await figures.collect(connection, request)
        has_cache = job.settings.servers.django_cache is not None
        ads = await queries.ads_of_day(connection, day, zone=zone.key) if has_cache else None
        return report, ads, await queries.readers(connection)


async def store(report: Report, ads: AdsOfDay | None, job: JobContext) -> None:
    period = report.day.isoformat()
    for locale in LOCALES:
        localized = payload(report, locale)
        stored = await snapshots.store(
            job, kind="daily_report", locale=locale, period=period, payload=localized, keep=KEPT_FOR
        )
    if ads is not None:
        await django_cache.store(job, "daily_report", django_payload(report, ads), stored)


async def request_emails(report: Report, readers: Sequence[Reader], job: JobContext) -> None:
    """Request the emails that have no row in the notification log yet."""
    entries: dict[str, tuple[LogEntry, Reader]] = {}
    for entry, reader in _log_entries(report.day, readers):
        entries.setdefault(entry.key, (entry, reader))
    new = await queries.claim(job.session, [entry for entry, _ in entries.values()])
    wanted = [(entry, reader) for key, (entry, reader) in entries.items() if key in new and entry.state == "pending"]
    email = email_of(report)
    for entry, reader in wanted:
        request = MailRequested(
            to=entry.recipient, letter=email, locale=reader.locale, key=entry.key, user_id=reader.id
        )
        job.publish(request)
    unusable = [reader.id for entry, reader in entries.values() if entry.state == "failed"]
    job.record(readers=len(entries), letters=len(wanted), readers_without_address=unusable)


def _log_entries(day: date, readers: Sequence[Reader]) -> Iterator[tuple[LogEntry, Reader]]:
    """Yield the log row of each reader's email; readers with the same address have the same key."""
    for reader in readers:
        parsed = parse_address(reader.address)
        address = parsed or reader.address
        state, error = ("pending", "") if parsed else ("failed", f'address "{address}": not an email address')
        key = f"daily_report:{day}:{address.lower()}"[:LONGEST_KEY]
        yield LogEntry(key, parsed or "", state, reader.locale, error), reader


def email_of(report: Report) -> emails.DailyReportEmail:
    return emails.DailyReportEmail(
        occurred_at=report.made_at,
        day=report.day,
        figures=report.figures,
        rates=report.rates,
        runs=report.runs,
        missing=report.missing,
        history=[
            emails.ReportDay(
                day=day.day,
                views=day.values["views"],
                new_ads=day.values["new_ads"],
                new_users=day.values["new_users"],
            )
            for day in report.history
        ],
    )
