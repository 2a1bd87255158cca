"""The daily report: what a day that is over has brought, stored, and mailed to the managers who want it.

Asked for again it is made again, from what is known by then; a letter goes to each reader once a day that it is of.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from consumers.analytics import snapshots
from consumers.analytics.report import charts, figures, queries
from consumers.analytics.report.figures import Question, Report, closes
from consumers.analytics.report.payload import payload
from consumers.analytics.report.queries import Entry, Reader
from consumers.analytics.rollup import daily_activity, rollup
from consumers.analytics.transactions import polite, snapshot
from pocketwatch.errors import Reject
from pocketwatch.worker.consumer import consumer
from pocketwatch.worker.context import JobContext
from schemas import emails
from schemas.catalogue import CATALOGUE
from schemas.locale import LOCALES, Locale
from schemas.mail import LONGEST_ADDRESS, Address, MailRequested
from schemas.message import Tick
from schemas.ticks import DailyReport

EARLIEST = date(1970, 1, 1)
KEPT_FOR = timedelta(days=400)
ADDRESS: TypeAdapter[str] = TypeAdapter(Address)
# Messages that come in thousands are no runs of the night; nor is this report, of itself.
JOBS = [key for key, message in CATALOGUE.items() if issubclass(message, Tick) and message is not DailyReport]


@consumer
async def report_day(tick: DailyReport, job: JobContext) -> None:
    """A day that nobody knows anything of has a report, too, which says so."""
    zone = ZoneInfo(job.settings.site.timezone)
    day = closed_day(tick, job, zone)
    with polite():
        if not await rollup.bring_up_to_date(job):
            return job.continue_with(DailyReport(day=day))
        found, readers = await look(day, zone, job)
        await keep(found, job)
        await mail(found, readers, job)
    job.record(day=str(day), missing=[gap.what for gap in found.missing])
    if found.lacking:
        job.mark_partial(f"missing in the report of {day}: {', '.join(found.lacking)}")
    return None


def closed_day(tick: DailyReport, job: JobContext, zone: ZoneInfo) -> date:
    """The day that is meant.

    Raises:
        GiveUp: when it is not over, saying when it will be; and for a day that never was one of the marketplace.
    """
    day = tick.day or daily_activity.last_closed(job.due_at, zone.key)
    if not EARLIEST <= day < date.max:
        raise Reject(f"{day} is no day that a report could be of; it must be {EARLIEST} or later, and over")
    closing = closes(day, zone)
    if closing > job.now:
        raise Reject(f"{day} is not over: it closes at {closing.isoformat()} ({zone.key}); ask for its report then")
    return day


async def look(day: date, zone: ZoneInfo, job: JobContext) -> tuple[Report, list[Reader]]:
    """The figures, and who wants them, as of one moment."""
    rates = job.settings.rates
    question = Question(
        day=day, zone=zone, now=job.now, currencies=rates.currencies, stale_after=rates.stale_after, jobs=JOBS
    )
    async with snapshot(job.transaction) as connection:
        return await figures.collect(connection, question), await queries.readers(connection)


async def keep(found: Report, job: JobContext) -> None:
    """One snapshot a language."""
    for locale in LOCALES:
        await snapshots.store(
            job,
            kind="daily_report",
            locale=locale,
            period=found.day.isoformat(),
            payload=payload(found, locale),
            keep=KEPT_FOR,
        )


async def mail(found: Report, readers: Sequence[Reader], job: JobContext) -> None:
    """Ask for the letters that nobody has asked for before. Its row in the log is what makes a letter the same."""
    entries: dict[str, tuple[Entry, Reader]] = {}
    for entry, reader in asked(found.day, readers):
        entries.setdefault(entry.key, (entry, reader))
    new = await queries.claim(job.session, [entry for entry, _ in entries.values()])
    wanted = [(entry, reader) for key, (entry, reader) in entries.items() if key in new and entry.status == "pending"]
    written = await write(found, {reader.locale for _, reader in wanted})
    for entry, reader in wanted:
        wish = MailRequested(
            to=entry.recipient,
            letter=written[reader.locale],
            locale=reader.locale,
            key=entry.key,
            user_id=reader.id,
        )
        job.publish(wish)
    unusable = [reader.id for entry, reader in entries.values() if entry.status == "failed"]
    job.record(readers=len(entries), letters=len(wanted), readers_without_address=unusable)


def asked(day: date, readers: Iterable[Reader]) -> Iterable[tuple[Entry, Reader]]:
    """The row of each reader's letter; those with the same address have the same key."""
    for reader in readers:
        address, error = usable(reader.address)
        key = f"daily_report:{day}:{address.lower()}"
        status = "failed" if error else "pending"
        yield Entry(key[:LONGEST_KEY], address[:LONGEST_ADDRESS], status, reader.locale, error), reader


LONGEST_KEY = 600  # characters, of `MailRequested`


def usable(address: str) -> tuple[str, str]:
    """The address as letters name it, and what is wrong with it, if anything is."""
    try:
        return ADDRESS.validate_python(address.strip()), ""
    except ValidationError:
        return address, f'"{address}" is no e-mail address'


async def write(found: Report, locales: Iterable[Locale]) -> Mapping[Locale, emails.DailyReport]:
    """The letter in each of these languages. The charts take a while, and so a thread."""
    return {locale: await asyncio.to_thread(letter_of, found, locale) for locale in sorted(locales)}


def letter_of(found: Report, locale: Locale) -> emails.DailyReport:
    """The letter, whose charts are in this language."""
    return emails.DailyReport(
        occurred_at=found.made_at,
        day=found.day,
        figures=found.figures,
        rates=found.rates,
        runs=found.runs,
        missing=found.missing,
        charts=charts.draw(found, locale),
    )
