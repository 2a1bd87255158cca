"""Emails from the queue to a mail server, rendered, built, sent and logged: ours against a Celery prefork worker.

    message ─► row of the log ─► templates ─► MIME ─► SMTP ─► row says sent ─► acknowledged

python -m bench.mail fill 5000      messages for our consumer

The mail server is the sink of `bench.smtp`, which throws emails away and counts them.
"""

import asyncio
import smtplib
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from rich.table import Table

from bench import backlog, memory, smtp, table
from bench.backlog import Backlog, Side
from bench.memory import MB
from bench.rounds import Sample, alternate, contenders
from bench.servers import Say, Servers, WorkNotDone
from pocketwatch import command, settings
from pocketwatch.broker.publisher import Publisher, message_of
from pocketwatch.broker.topology import TOPOLOGY
from schemas.envelope import Envelope
from schemas.mail import MailRequested

CONCURRENCY, PREFETCH = 2, 50  # of the peer: a process for each core
TARGET = 2.0
WARM_UP = 200
LOOK_SELDOM = 2.0  # seconds
IN_FLIGHT = 100
SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the emails, after which memory is looked at
MOST_ADDED = 0.1  # of the resident memory, from the first look to the last
PEER = "bench.peers.mail_app"
CELERY = ("celery", "-A", PEER, "worker", "--without-gossip", "--without-mingle", "--pool", "prefork")
SENT = "SELECT count(*) FROM moderation_notification_logs WHERE status = 'sent'"
EMAIL = {
    "name": "ad_needs_edit",
    "ad_id": 4711,
    "ad_title": "Toyota Camry 2019, перший власник",
    "reasons": ["У тексті є номер телефону", "Ціна 1 USD не схожа на справжню"],
    "attempts_left": 2,
    "link": "https://cars.example/ads/4711",
}


SIDES = (
    Side(
        "Pocketwatch",
        "`pocketwatch consume mail`, one process: shared transactions, claim and run log too; kept connections",
        ("pocketwatch", "consume", "mail"),
        fill="bench.mail",
        ours=True,
    ),
    Side(
        f"Celery, {CONCURRENCY} processes",
        "prefork, acks_late; the same templates, EmailMessage, a smtplib connection each, psycopg",
        (*CELERY, "--concurrency", str(CONCURRENCY)),
        fill=PEER,
    ),
)


def email(number: int) -> dict[str, Any]:
    """A typical email to an owner, as JSON."""
    return {**EMAIL, "ad_id": number + 1, "occurred_at": datetime.now(UTC).isoformat()}


def address(number: int) -> str:
    return f"reader{number}@example.com"


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Until the last row of the log says `sent`."""
    count = 500 if quick else 4_000
    with smtp.sink() as port:
        compared = contenders(SIDES, lambda side: _measure(servers, side, port, count), say)
        results = alternate(compared, rounds=2 if quick else 3, warm_up=False, say=say)
    caption = f"{table.versions('celery', 'psycopg', 'jinja2')}; {servers.versions()}; {WARM_UP} to warm up"
    title = f"mail: {count:,} emails from the queue to a local sink, until the last is logged as sent"
    return table.compare(title, results, caption=[caption], count=count, target=TARGET)


def _measure(servers: Servers, side: Side, port: int, count: int) -> Sample:
    with _at_work(servers, side, port, count) as work:
        return work.measure(WARM_UP + count)


def run_memory(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Measure resident memory of our process while it sends a hundred thousand emails."""
    count = 2_000 if quick else 100_000
    found = table.blank(f"mail-memory: {count:,} emails, one process")
    for column in ("emails", "resident MB", "emails/s"):
        found.add_column(column, justify="right")
    seen = []
    with smtp.sink() as port, _at_work(servers, SIDES[0], port, count) as work:
        began = time.perf_counter()
        for share in SHARES:
            work.until(WARM_UP + int(share * count), every=LOOK_SELDOM)
            seen.append(memory.resident(work.workers[0].pid))
            rate = share * count / (time.perf_counter() - began)
            found.add_row(f"{share * count:,.0f}", f"{seen[-1] / MB:.1f}", f"{rate:,.0f}")
            say(f"  {share:.0%}: {seen[-1] / MB:.1f} MB")
    added = seen[-1] / seen[0] - 1
    verdict = "met" if added <= MOST_ADDED else "MISSED"
    found.caption = f"{table.machine()}\ntarget: at most {MOST_ADDED:.0%} more at the end: {verdict} ({added:+.1%})"
    return found


@contextmanager
def _at_work(servers: Servers, side: Side, port: int, count: int) -> Iterator[Backlog]:
    """A warm worker with so many messages on its queue, on its own vhost and database; checked at the end."""
    _taken(port)
    mail = {"SMTP_URL": f"smtp://127.0.0.1:{port}", "POCKETWATCH_MAIL_FROM": "Bench <noreply@bench.example>"}
    with servers.own(**mail) as (database, environment):
        with backlog.waiting(
            servers, side, count, warm_up=WARM_UP, done=SENT, database=database, environment=environment
        ) as work:
            yield work
        if (taken := _taken(port)) != WARM_UP + count:
            raise WorkNotDone(f"{side.name}: the sink has taken {taken} emails, should be {WARM_UP + count}")


def _taken(port: int) -> int:
    """How many emails the sink has taken since the last count."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="bench") as client:
        return int(client.docmd("COUNT")[1].split()[0])


async def fill(count: int) -> None:
    """Request numbered emails."""
    loaded = settings.load()
    async with Publisher(loaded.rabbitmq_urls, role="bench", topology=TOPOLOGY) as publisher:
        numbers = iter(range(count))
        await asyncio.gather(*(_ask(publisher, numbers) for _ in range(IN_FLIGHT)))


async def _ask(publisher: Publisher, numbers: Iterable[int]) -> None:
    exchange, routing_key = MailRequested.exchange, MailRequested.routing_key
    for number in numbers:
        name = str(uuid4())
        envelope = Envelope(message_id=name, correlation_id=name, exchange=exchange, routing_key=routing_key)
        body = {"to": address(number), "locale": "uk", "letter": email(number)}
        await publisher.publish(message_of(envelope, body), exchange=exchange, routing_key=routing_key)


def main(verb: str, count: int) -> None:
    assert verb == "fill", verb
    command.run(fill(count))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
