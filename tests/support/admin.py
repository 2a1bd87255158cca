"""What an operator does at the database of a test."""

from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.support.waiting import eventually

NOW_READ_ONLY = "ALTER DATABASE {} SET default_transaction_read_only = on"
WRITABLE_AGAIN = "ALTER DATABASE {} RESET default_transaction_read_only"
SLEEP = "SELECT pg_sleep(10)"
OTHERS = "datname = '{}' AND pid <> pg_backend_pid()"


class Admin:
    """An operator's session, with autocommit; {} in a statement is the database."""

    def __init__(self, url: str) -> None:
        self.url, self.name = url, urlsplit(url).path[1:]
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("SET default_transaction_read_only = off")

    def run(self, statement: str) -> list[Any]:
        cursor = self._connection.execute(statement.replace("{}", self.name).encode())
        return cursor.fetchall() if cursor.description else []

    async def meanwhile(self, statement: str, *, of: str = SLEEP) -> None:
        """Run a statement for the process that runs another one."""

        async def pid() -> int | None:
            rows = self.run(f"SELECT pid FROM pg_stat_activity WHERE datname = '{{}}' AND query = '{of}'")
            return rows[0][0] if rows else None

        self.run(statement.format(pid=await eventually(pid)))

    def terminate(self) -> int:
        """End every other session; return how many there were."""
        return len(self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}"))

    def close(self) -> None:
        self._connection.close()
