"""Celery sends the same emails, as is usual; with the same guarantees.

The templates and their rendering are ours, so that the languages and the words are the same work. The rest is what
Django's mail backend does: an EmailMessage of the standard library, and a connection of smtplib for each email. The
log row is inserted, and says `sent` in the same transaction.

python -m bench.peers.mail_app fill 5000    messages, without confirms
"""

import os
import smtplib
import sys
from email.message import EmailMessage
from email.utils import format_datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from celery import Celery

from bench import mail
from consumers.mail.compose.headers import message_id
from consumers.mail.compose.rendering import EmailRenderer, RenderedEmail, SiteIdentity
from pocketwatch.clock import utc_now
from schemas.mail import MailRequested

SENDER = os.environ.get("POCKETWATCH_MAIL_FROM", "noreply@bench.example")
INSERT = (
    "INSERT INTO moderation_notification_logs "
    "(method, recipient, status, error_message, sent_at, external_id, key, letter, locale, attempts, updated_at) "
    "VALUES ('email', %s, 'sending', '', now(), %s, %s, %s, %s, 1, now())"
)
UPDATE = (
    "UPDATE moderation_notification_logs SET status = 'sent', sent_at = clock_timestamp(), reply = %s, "
    "updated_at = clock_timestamp() WHERE key = %s"
)
LOG = (
    "INSERT INTO update_logs (job, message_id, correlation_id, trigger, status, worker, finished_at) "
    "VALUES ('mail.delivery', %s, %s, 'event', 'succeeded', 'peer', now())"
)

app = Celery(broker=os.environ["RABBITMQ_URL"])
app.conf.update(
    task_default_queue="bench.peer",
    task_default_queue_type="quorum",
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=mail.PREFETCH,
)


@cache
def renderer() -> EmailRenderer:
    return EmailRenderer(SiteIdentity("AutoMarket", "http://localhost:3000", SENDER), "Europe/Kyiv")


@cache
def database() -> psycopg.Connection:
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


@app.task(name="bench.send")
def send(name: str, body: dict[str, Any]) -> None:
    """One email."""
    request = MailRequested.model_validate(body, strict=False)
    key = f"{name}:{request.to}:email"
    external_id = message_id(key, "bench.example")
    with database().transaction():
        database().execute(INSERT, [request.to, external_id, key, request.letter.name, request.locale])
        built = build(renderer().render(request.letter, request.locale), request.to, external_id)
        server = urlsplit(os.environ["SMTP_URL"])
        with smtplib.SMTP(server.hostname or "", server.port or 25, local_hostname="bench") as client:
            client.send_message(built)
        with database().pipeline():
            database().execute(UPDATE, ["250 ok", key])
            database().execute(LOG, [name, name])


def build(rendered: RenderedEmail, to: str, external_id: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, to, rendered.subject
    message["Date"], message["Message-ID"] = format_datetime(utc_now()), external_id
    message["Auto-Submitted"], message["Content-Language"] = "auto-generated", rendered.locale
    message.set_content(rendered.text, cte="base64")
    message.add_alternative(rendered.html, subtype="html", cte="base64")
    return message


def main(verb: str, count: int) -> None:
    assert verb == "fill", verb
    for number in range(count):
        body = {"to": mail.address(number), "locale": "uk", "letter": mail.email(number)}
        send.apply_async((str(uuid4()), body))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
