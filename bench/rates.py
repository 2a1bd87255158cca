"""rates.cleanup on a million rates: time, and the memory that it adds to the process that runs it.

python -m bench.rates [ROWS]        on the servers that the tests use; 1,000,000 rows by default
"""

import asyncio
import gc
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from consumers.rates.cleanup import clean_rates
from pocketwatch.settings import Settings
from pocketwatch.stack.stack import Stack
from pocketwatch.storage import migrate, run_log
from pocketwatch.storage.database import Database
from pocketwatch.worker.executors import JobExecutor
from schemas.envelope import Envelope
from schemas.ticks import CleanRates

ROWS = 1_000_000
FOLDER = Path(__file__).parents[1] / ".pocketwatch" / "tests"
# Eight of each moment (four currencies, two banks), one a minute, two thirds of a million before the retention.
FILL = """
    INSERT INTO currency_rates (base_currency, target_currency, rate, source, fetched_at, is_active, raw_data,
        created_at, updated_at, rate_date)
    SELECT 'UAH', (ARRAY['USD', 'EUR', 'PLN', 'GBP'])[1 + n % 4], 44.1, (ARRAY['NBU', 'PRIVATBANK'])[1 + n / 4 % 2],
        now() - (:rows - n) * interval '8 seconds', true, '{"rate": "44.1"}', now(), now(), NULL
    FROM generate_series(1, :rows) n
"""
FILL_LOGS = """
    INSERT INTO currency_update_logs (started_at, status, source, currencies_updated, currencies_failed, triggered_by,
        created_at)
    SELECT now() - n * interval '8 minutes', 'SUCCESS', 'NBU', 4, 0, 'schedule', now()
    FROM generate_series(1, :rows / 100) n
"""


@dataclass(frozen=True)
class Result:
    """Figures of one run."""

    rows: int
    dry_run: bool
    seconds: float
    added_mb: float
    statistics: dict[str, int]


def run(rows: int = ROWS) -> list[Result]:
    """A dry run and a real one, on a database of its own."""
    stack = Stack(FOLDER, durable=False, echo=lambda _: None)
    with stack.lease() as urls:
        return asyncio.run(_measure(urls["DATABASE_URL"], rows))


async def _measure(url: str, rows: int) -> list[Result]:
    name = f"bench_{uuid4().hex[:8]}"
    admin = Database(url)
    await _administer(admin, f"CREATE DATABASE {name}")
    database = Database(url.rpartition("/")[0] + f"/{name}")
    try:
        await migrate.migrate(database)
        async with database.begin() as connection:
            await connection.execute(sa.text(FILL), {"rows": rows})
            await connection.execute(sa.text(FILL_LOGS), {"rows": rows})
        return [await _clean(database, rows, dry_run=dry_run) for dry_run in (True, False)]
    finally:
        await database.close()
        await _administer(admin, f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


async def _administer(database: Database, statement: str) -> None:
    async with database.engine.connect() as connection:
        outside = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await outside.execute(sa.text(statement))


async def _clean(database: Database, rows: int, *, dry_run: bool) -> Result:
    message_id = str(uuid4())
    envelope = Envelope(message_id=message_id, correlation_id="", exchange="ticks", routing_key="rates.cleanup")
    gc.collect()
    before, began = _memory(), time.perf_counter()
    alone = JobExecutor("rates.cleanup", clean_rates, database, Settings(), single_active=True)
    running = asyncio.ensure_future(alone.handle(envelope, CleanRates(dry_run=dry_run)))
    most = before
    while not (await asyncio.wait([running], timeout=0.02))[0]:
        most = max(most, _memory())
    await running
    seconds = time.perf_counter() - began
    async with database.begin() as connection:
        [row] = await run_log.of_message(connection, message_id)
    return Result(rows, dry_run, seconds, most - before, row["statistics"])


def _memory() -> float:
    """What this process holds now, in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    for result in run(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS):
        print(
            f"{'dry run' if result.dry_run else 'for good'}: {result.rows:,} rates in {result.seconds:.1f} s "
            f"({result.rows / result.seconds:,.0f}/s), {result.added_mb:.1f} MB added; {result.statistics}"
        )
