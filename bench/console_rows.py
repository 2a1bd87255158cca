"""What a suite has recorded after so many runs, in bulk, as the console shows it: the run log and all beside it.

A million runs are those of ninety days: fires of the schedule that ships, and events of moderation and emails.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psycopg

from consumers.mail.compose.samples import SAMPLES
from publishers.cron import fires_between, next_fire
from publishers.schedule import DEFAULT, load

RUNS_A_DAY = 11_000
SCHEDULED_AT_MOST = 0.5  # of the runs
SHOWN = 30  # fires of an entry, on pages of the console
EMAIL = next(each for each in SAMPLES if each.name == "ad_approved")
CONTENT = {"name": EMAIL.name, **json.loads(EMAIL.model_dump_json())}

FIRES = (
    "COPY fires (entry, due_at, state, message_id, reason, timetable, recorded_at{more}) FROM STDIN",
    ", outcome, outcome_reason, settled_at",
)
# Five runs of each ad: the review, notices to managers and the owner, two emails. Few of all runs end badly.
EVENTS = """
    SELECT (ARRAY['moderation.review', 'moderation.manager_notices', 'moderation.user_notices', 'mail.delivery',
        'mail.delivery'])[1 + n % 5] AS job, NULL AS entry, id || CASE WHEN n % 5 = 0 THEN '' ELSE '.' || n % 5 END
        AS message_id, id AS correlation_id, 'event' AS trigger, NULL::timestamptz AS due_at, n,
        now() - ({events} - n) * interval '1 s' * {days} * 86400 / {events} AS at, n / 5 AS ad
    FROM generate_series(1, {events}) AS n, LATERAL (SELECT md5((n / 5)::text)::uuid::text AS id) AS ids
    UNION ALL
    SELECT definition.job, fires.entry, message_id, message_id, 'schedule', due_at,
        extract(epoch FROM due_at)::int / 300, recorded_at, 1
    FROM fires JOIN (VALUES {jobs}) AS definition (entry, job) ON definition.entry = fires.entry
    WHERE state = 'published'
"""
STATUS = """CASE WHEN at > now() - interval '1 min' AND n % 50 = 0 THEN 'running' WHEN n % 1000 < 5 THEN 'failed'
    WHEN n % 1000 = 5 THEN 'dead' WHEN n % 1000 = 6 THEN 'rejected' WHEN n % 1000 < 17 THEN 'skipped'
    WHEN n % 1000 < 20 THEN 'partial' ELSE 'succeeded' END"""
RUNS = f"(SELECT *, {STATUS} AS status FROM ({EVENTS}) AS each_of) AS run ORDER BY at"
# By table: where its rows come from, and each column. What a former version of the table has not is left out.
TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "update_logs": (
        RUNS,
        {
            **{name: name for name in ("job", "entry", "message_id", "correlation_id", "trigger", "due_at", "status")},
            "started_at": "at",
            "finished_at": "CASE WHEN status <> 'running' THEN at + (n % 97) * interval '23 ms' END",
            "progress": "CASE WHEN status = 'running' THEN 0.4 END",
            "statistics": "jsonb_build_object('rows', n % 40, 'emails', 1)",
            "error": "CASE WHEN n % 1000 < 8 THEN 'SmtpError: 451 4.3.0 try again later (' || n || ')' END",
            "worker": "'host-' || n % 4 || ':' || 1000 + n % 4",
            "payload": "jsonb_build_object('ad_id', ad, 'occurred_at', at, 'reason', 'number ' || n)",
            "traceback": "CASE WHEN status = 'failed' THEN repeat('  consumers.a:7 b: await c' || chr(10), 20) END",
            "next_attempt_at": "CASE WHEN status = 'failed' AND at > now() - interval '1 day' "
            "THEN now() + n % 90 * interval '1 min' + interval '1 h' END",
        },
    ),
    "inbox": (
        "(SELECT DISTINCT job, message_id, started_at FROM update_logs WHERE id > {runs} * 0.7) AS run",
        {"consumer": "job", "message_id": "message_id", "handled_at": "started_at"},
    ),
    "outbox": (
        "(SELECT *, id > {runs} - 20 AS waits FROM update_logs WHERE id > {runs} * 0.7 ORDER BY id) AS run",
        {
            "message_id": "message_id || CASE WHEN waits THEN '.waits' ELSE '' END",
            "exchange": "'facts'",
            "routing_key": "'ad.submitted'",
            "payload": "jsonb_build_object('ad_id', id)",
            "correlation_id": "correlation_id",
            **dict.fromkeys(("created_at", "available_at"), "started_at"),
            "sent_at": "CASE WHEN NOT waits THEN started_at END",
        },
    ),
    "fire_accounts": (
        "(SELECT date_trunc('hour', due_at) AS hour, count(*) AS number FROM fires GROUP BY 1) AS hours",
        {"hour": "hour", "planned": "number", "accounted": "number"},
    ),
    "moderation_decisions": (
        "generate_series(1, {count}) AS n, LATERAL (SELECT n % 7 = 0 AS bad, {at} AS at) AS it",
        {
            "ad_id": "n / 2",
            "action": "CASE WHEN bad THEN 'needs_edit' ELSE 'approve' END",
            "from_status": "'pending'",
            "to_status": "CASE WHEN bad THEN 'needs_review' ELSE 'active' END",
            "reason": "CASE WHEN bad THEN 'contact.phone: a phone number in the text' ELSE 'no rule matches' END",
            "actor": "CASE WHEN n % 3 = 0 THEN 'classifier a-model' ELSE 'rules 2026.1' END",
            "message_id": "md5(n::text)",
            "details": "jsonb_build_object('hits', CASE WHEN bad THEN jsonb_build_array(jsonb_build_object('rule', "
            "'contact.phone', 'excerpt', '067 123 45 ' || n % 100)) ELSE '[]' END, 'locale', 'uk')",
            "decided_at": "at",
            "content_hash": "md5(n::text)",
            "rules_version": "'2026.1'",
        },
    ),
    "moderation_notifications": (
        "generate_series(1, {count}) AS n",
        {
            "action": "'ad_flagged'",
            "title": "'Ad ' || n / 2",
            "message": "'Look at it'",
            "ad_id": "n / 2",
            "data": "'{{}}'",
            "status": "'pending'",
            "created_at": "{at}",
            "priority": "1",
            "manager_id": "1 + n % 5",
        },
    ),
    "owner_notifications": (
        "generate_series(1, {count}) AS n",
        {
            "user_id": "n % 50000",
            "action": "'approve'",
            "title": "'Your ad is on the site'",
            "message": "'Toyota Camry 2019'",
            "ad_id": "n / 2",
            "data": "'{{}}'",
            "created_at": "{at}",
            "message_id": "md5(n::text)",
        },
    ),
    "moderation_notification_logs": (
        """generate_series(1, {count}) AS n, LATERAL (SELECT {at} AS at, CASE WHEN n % 500 = 0 THEN 'failed'
            WHEN n % 500 = 1 THEN 'suppressed' WHEN n > {count} - 10 THEN 'pending' ELSE 'sent' END AS state)
            AS it""",
        {
            "method": "'email'",
            "recipient": "'user' || n % 50000 || '@example.com'",
            "status": "CASE WHEN state = 'suppressed' THEN 'failed' ELSE state END",
            "error_message": "''",
            "sent_at": "at",
            "external_id": "'<' || n || '@example.com>'",
            "key": "md5(n::text) || '/owner/email'",
            "letter": "'ad_approved'",
            "locale": "'uk'",
            "reply": "CASE WHEN state = 'failed' THEN '550 5.1.1 no such user' ELSE '250 2.0.0 accepted' END",
            "attempts": "1",
            "updated_at": "at",
            "state": "state",
            "requested_at": "at",
            "request": "jsonb_build_object('to', 'user' || n % 50000 || '@example.com', 'letter', "
            "'{content}'::jsonb || jsonb_build_object('ad_id', n / 2))",
        },
    ),
    "mail_suppressions": (
        "generate_series(1, 1 + {runs} / 1000) AS n",
        {"address": "'gone' || n || '@example.com'", "scope": "'all'", "reason": "'550 no such user'"},
    ),
    "operator_actions": (
        "generate_series(1, {count}) AS n",
        {
            "done_at": "{at}",
            "actor": "(ARRAY['olena', 'taras', 'ivan'])[1 + n % 3]",
            "source": "(ARRAY['web', 'cli'])[1 + n % 2]",
            "action": "(ARRAY['schedule.run', 'dead.requeue', 'retries.now'])[1 + n % 3]",
            "target": "'message-' || n",
            "reason": "'asked for'",
            "after": "jsonb_build_object('count', n)",
        },
    ),
    "incidents": (
        "generate_series(1, 3 + {runs} / 2000) AS n",
        {
            "kind": "'failing'",
            "subject": "'job-' || n",
            "detail": "'failed 5 times in a row'",
            "remedy": "'see: pocketwatch runs'",
            "opened_at": "now() - n * interval '1 h'",
            "recovered_at": "CASE WHEN n > 3 THEN now() - n * interval '1 h' + interval '5 min' END",
        },
    ),
    "processes": (
        "generate_series(1, 40) AS n",
        {
            "kind": "(ARRAY['consume', 'consume', 'publish', 'web'])[1 + n % 4]",
            "groups": "'[\"cleanup\"]'",
            "host": "'host-' || n % 4",
            "pid": "1000 + n",
            "version": "'1.0'",
            "started_at": "now() - interval '1 day'",
            "heartbeat_at": "now() + CASE WHEN n <= 8 THEN interval '1 day' ELSE interval '-1 h' END",
            "stopped_at": "CASE WHEN n > 8 THEN now() - interval '1 h' END",
        },
    ),
    "daily_activity": (
        "generate_series(0, 120) AS n",
        {"day": "current_date - n", "views": "120000 + n", "new_ads": "3000 + n", "new_users": "400"},
    ),
    "analytics_snapshots": (
        "generate_series(1, 100) AS n",
        {
            "kind": "'quick_stats'",
            "period": "'p' || n",
            "payload": "jsonb_build_object('total_ads', 100000 + n, 'active_ads', 900 + n)",
            "generated_at": "now() - (100 - n) * interval '15 min'",
        },
    ),
    "currency_rates": (
        """generate_series(0, 90) AS n, unnest(ARRAY['USD', 'EUR', 'PLN', 'GBP']) WITH ORDINALITY
            AS one (currency, rate), unnest(ARRAY['NBU', 'PRIVATBANK']) AS bank""",
        {
            "base_currency": "'UAH'",
            "target_currency": "currency",
            "rate": "40 + rate + n * 0.01",
            "source": "bank",
            "is_active": "true",
            "rate_date": "current_date - n",
            "fetched_at": "now() - n * interval '1 day' - ascii(bank) * interval '1 s'",
            **dict.fromkeys(("created_at", "updated_at"), "now()"),
        },
    ),
    "currency_update_logs": (
        "generate_series(0, 180) AS n",
        {
            **dict.fromkeys(("started_at", "completed_at", "created_at"), "now() - n * interval '12 h'"),
            "status": "'SUCCESS'",
            "source": "'NBU'",
            "currencies_updated": "4",
            "currencies_failed": "0",
            "triggered_by": "'schedule'",
        },
    ),
}
# Rows for each run, where it is not those of a source.
SHARES = {
    "moderation_decisions": 0.2,
    "moderation_notifications": 0.1,
    "owner_notifications": 0.2,
    "moderation_notification_logs": 0.4,
    "operator_actions": 0.002,
}
AT = "now() - ({count} - n) * interval '1 s' * {days} * 86400 / {count}"
COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = %s AND table_schema = current_schema()"
UNCHECKED = "SET session_replication_role = replica; SET synchronous_commit = off; SET work_mem = '256MB'"
IN_FORCE = (
    "INSERT INTO schedule_entries (entry, job, enabled, definition, schedule_hash, decided_until, next_due_at) "
    "VALUES (%s, %s, %s, %s, %s, now(), %s)"
)


@dataclass(frozen=True)
class Size:
    """How many runs, and of how many days; with None these are as many as fill them in a usual suite."""

    runs: int
    of_days: int | None = None

    @property
    def days(self) -> int:
        return self.of_days or math.ceil(self.runs / RUNS_A_DAY)


def fill(url: str, size: Size) -> None:
    """Insert the rows into empty tables, of this version or of the one before."""
    schedule, now = load(DEFAULT), datetime.now(UTC)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(UNCHECKED)
        columns = {row[0] for row in connection.execute(COLUMNS, ["fires"])}
        scheduled = latest(list(_fires(size, now)), int(size.runs * SCHEDULED_AT_MOST))
        copied = FIRES[0].format(more=FIRES[1] if "outcome" in columns else "")
        with connection.cursor().copy(copied.encode()) as copy:
            for row in scheduled:
                copy.write_row(row if "outcome" in columns else row[:7])
        if connection.execute(COLUMNS, ["schedule_entries"]).fetchone():
            for each in schedule.entries:
                definition, following = json.dumps(each.definition), next_fire(each, now)
                values = [
                    each.name,
                    each.job,
                    each.enabled,
                    definition,
                    schedule.hash,
                    (each.enabled and following) or None,
                ]
                connection.execute(IN_FORCE, values)
        names = {
            "runs": str(size.runs),
            "events": str(size.runs - sum(row[2] == "published" for row in scheduled)),
            "days": str(size.days),
            "jobs": ", ".join(f"('{each.name}', '{each.job}')" for each in schedule.entries),
            "content": json.dumps(CONTENT, ensure_ascii=False).replace("'", "''"),
        }
        for table, (source, expressions) in TABLES.items():
            names["count"] = str(max(int(size.runs * SHARES.get(table, 1)), 1))
            names["at"] = AT.format(**names)
            known = {row[0] for row in connection.execute(COLUMNS, [table])}
            chosen = {name: value.format(**names) for name, value in expressions.items() if name in known}
            if chosen:
                selected = f"SELECT {', '.join(chosen.values())} FROM {source.format(**names)}"
                listed = ", ".join(f'"{name}"' for name in chosen)
                connection.execute(f"INSERT INTO {table} ({listed}) {selected}".encode())
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")


def _fires(size: Size, now: datetime) -> Iterator[tuple[object, ...]]:
    """Yield the columns of each fire, oldest first; one in 200 was missed."""
    every = sorted(
        (at, entry.name, entry.timetable)
        for entry in load(DEFAULT).entries
        if entry.enabled
        for at in fires_between(entry, now - timedelta(days=size.days), now)
    )
    for number, (at, name, timetable) in enumerate(every):
        if number % 200 == 0:
            reason = "no publisher was running"
            yield name, at, "missed", None, reason, timetable, at, "missed", reason, at
        else:
            yield name, at, "published", f"{name}@{at:%Y%m%dT%H%M%SZ}", None, timetable, at, "succeeded", None, at


def latest(fires: Sequence[tuple[object, ...]], count: int) -> list[tuple[object, ...]]:
    """Return so many of the fires, oldest first: those that pages show of each entry, and then the latest of all."""
    seen, order = Counter[object](), list[tuple[bool, int]]()
    for index in reversed(range(len(fires))):
        entry = fires[index][0]
        order.append((seen[entry] >= SHOWN, -index))
        seen[entry] += 1
    return [fires[index] for index in sorted(-each for _, each in sorted(order)[:count])]
