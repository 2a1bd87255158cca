"""Notices to owners and managers: our real consumers against peers that write the same rows, a transaction each.

    python -m bench notices

python -m bench.notices fill 1000    notices for our consumers, in turn to an owner and to the managers
"""

import sys

from rich.table import Table

from bench import backlog, sending, table
from bench.backlog import Side
from bench.marketplace_rows import UNCHECKED
from bench.peers.notices import ADS, MANAGERS, OWNERS, messages
from bench.peers.work import CONCURRENCY, PREFETCH
from bench.rounds import Sample, alternate, contenders
from bench.servers import Say, Servers, WorkNotDone
from pocketwatch import command

WARM_UP = 100
CELERY = ("celery", "-A", "bench.peers.celery_notices", "worker", "--without-gossip", "--without-mingle")
PEOPLE = f"""
{UNCHECKED};
TRUNCATE auth_user CASCADE;
INSERT INTO auth_user (id, password, email, is_active, is_staff, is_superuser)
  SELECT n, '', 'user' || n || '@example.com', true, n <= {MANAGERS}, false
  FROM generate_series(1, {MANAGERS + OWNERS}) AS n;
INSERT INTO add_accounts (id, account_type, moderation_level, role, organization_name, stats_enabled, user_id)
  SELECT n, 'BASIC', 'AUTO', 'seller', '', true, {MANAGERS} + n FROM generate_series(1, {OWNERS}) AS n;
INSERT INTO car_ads (id, title, description, currency, dynamic_fields, is_validated, validation_errors, status,
    moderation_reason, auto_moderation_attempts, needs_manual_review, model, seller_type, geocode, is_favorite,
    use_profile_contacts, account_id, mark_id, city_id, region_id)
  SELECT n, 'Toyota Camry ' || n, '', 'UAH', '{{}}', true, '{{}}', 'pending', '', 0, false, 'Camry', 'private', '',
    false, true, 1 + n % {OWNERS}, 1, 1, 1 FROM generate_series(1, {ADS}) AS n;
INSERT INTO moderation_manager_notification_settings (email_enabled, info_table_enabled, email_address,
    notify_for_actions, is_active, created_at, updated_at, manager_id)
  SELECT true, true, '', '[]', true, now(), now(), n FROM generate_series(1, {MANAGERS}) AS n
"""
DONE = "SELECT count(*) FROM update_logs WHERE status = 'succeeded'"
ROWS = (
    # Not the emails of the watchdog about the missing publisher.
    "SELECT (SELECT count(*) FROM owner_notifications), (SELECT count(*) FROM moderation_notifications), "
    "(SELECT count(*) FROM moderation_notification_logs), "
    "(SELECT count(*) FROM outbox WHERE message_id LIKE '%notices.%'), (SELECT count(*) FROM inbox)"
)
SIDES = (
    Side(
        "Pocketwatch",
        "`pocketwatch consume moderation`, one process: shared transactions, and the claim",
        ("pocketwatch", "consume", "moderation"),
        fill="bench.notices",
        ours=True,
    ),
    Side(
        f"Celery, {CONCURRENCY} threads",
        f"acks_late, prefetch {CONCURRENCY * PREFETCH}, psycopg; a transaction each",
        (*CELERY, "--pool", "threads", "--concurrency", str(CONCURRENCY)),
        fill="bench.peers.celery_notices",
    ),
    Side(
        f"Celery, {CONCURRENCY} processes",
        "the same, prefork",
        (*CELERY, "--pool", "prefork", "--concurrency", str(CONCURRENCY)),
        fill="bench.peers.celery_notices",
    ),
    Side(
        f"Dramatiq, {CONCURRENCY} threads",
        f"one process, prefetch {CONCURRENCY * PREFETCH}, psycopg; a transaction each",
        ("dramatiq", "bench.peers.dramatiq_notices", "--processes", "1", "--threads", str(CONCURRENCY)),
        fill="bench.peers.dramatiq_notices",
        package="dramatiq",
    ),
)


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """Until the last notice is logged."""
    count = 200 if quick else 4_000
    compared = contenders(SIDES, lambda side: _measure(servers, side, count), say)
    results = alternate(compared, rounds=1 if quick else 3, warm_up=False, say=say)
    return table.compare(
        f"notices: {count:,} on quorum queues, in turn to an owner and to {MANAGERS} managers, until all are logged",
        results,
        caption=[
            f"{table.versions('celery', 'dramatiq', 'psycopg')}; {servers.versions()}; {WARM_UP} to warm up",
            "for each recipient: a row of the info table, two of the log of notifications, an outbox row with an email",
        ],
        count=count,
    )


def _measure(servers: Servers, side: Side, count: int) -> Sample:
    prefetch = str(CONCURRENCY * PREFETCH)
    with servers.own(dramatiq_queue_prefetch=prefetch) as (database, environment):
        servers.ask(PEOPLE, database)
        with backlog.waiting(
            servers, side, count, warm_up=WARM_UP, done=DONE, database=database, environment=environment
        ) as work:
            sample = work.measure(WARM_UP + count)
        _check(servers, database, side, WARM_UP + count)
    return sample


def _check(servers: Servers, database: str, side: Side, notices: int) -> None:
    """Check that each recipient has each row once."""
    owners, managers = notices // 2, notices // 2 * MANAGERS
    recipients = owners + managers
    should = (owners, managers, 2 * recipients, recipients, notices if side.ours else 0)
    if (found := servers.ask(ROWS, database)) != should:
        raise WorkNotDone(f"{side.name}: owners', managers', log, email rows and claims are {found}, not {should}")


def main(verb: str, count: int) -> None:
    assert verb == "fill", verb
    command.run(sending.fill(messages(count)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
