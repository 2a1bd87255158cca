"""Which files the rows of the platform name: they are kept, however old.

A row names a file by its path below MEDIA_ROOT (`ads/images/1.jpg`) or by a URL (`/media/avatars/1.png`,
`https://example.com/media/1.png?v=2`). Neither MEDIA_ROOT nor MEDIA_URL is known here, and the root of the clean-up may
be MEDIA_ROOT, a folder in it, or a folder above it. So a row names a file if its value ends with the file's folder and
name. The name alone decides

* for a file directly in the root, whose folder may be MEDIA_ROOT,
* for a value whose folder may be the end of MEDIA_URL: none, the first below the host, or one called `media`.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from pocketwatch.storage import locks
from pocketwatch.worker.context import JobContext
from pocketwatch.worker.paged_job import retry_when_busy

STATEMENT_TIMEOUT = timedelta(minutes=2)  # a million rows take seconds


class Column(NamedTuple):
    """A column of the platform that names files, in URLs or as paths below MEDIA_ROOT; either may hold the other."""

    table: str
    name: str
    holds_urls: bool = False


COLUMNS = (
    Column("ads_addimagemodel", "image"),
    Column("ads_addimagemodel", "image_url", holds_urls=True),
    Column("profiles", "avatar"),
    Column("profiles", "avatar_url", holds_urls=True),
    Column("ads_carmake", "logo"),
)

# Not of `information_schema`, which hides a column that may not be read: its query must fail.
EXISTING = sa.text(
    """
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass(:table) AND attname = ANY(:names) AND attnum > 0 AND NOT attisdropped
    """
)

# What is encoded in a URL, or may be: runs of it are not compared.
ENCODED = r"(?:%[0-9A-Fa-f]{2}|[^A-Za-z0-9._/-])+"
MASK = "?"
NOT_TEXT = "[\ud800-\udfff]"  # bytes of a file name that are not UTF-8, which no column can hold
ENDING = 4  # characters

# OFFSET 0 has a subquery evaluated as it is, so that cheap tests drop nearly every row before the dear ones.
NAMED = r"""
SELECT DISTINCT CASE WHEN name IN (SELECT unnest(CAST(:root AS text[]))) THEN name ELSE key END FROM (
  SELECT name, CASE
    WHEN folder IN ('', 'media') OR (path LIKE '/%' AND split_part(path, '/', 4) = '') THEN name
    ELSE folder || '/' || name
  END AS key FROM (
    SELECT path, split_part(path, '/', -2) AS folder, split_part(path, '/', -1) AS name FROM (
      SELECT CASE
        WHEN strpos(path, '%') = 0 THEN path
        ELSE regexp_replace(regexp_replace(path, '%2F', '/', 'gi'), '{encoded}', '{mask}', 'g')
      END AS path FROM (
        SELECT regexp_replace(path, '^([A-Za-z][A-Za-z0-9+.-]*\:)?//[^/]*', '') AS path FROM (
          SELECT path, split_part(path, '/', -1) AS name FROM (
            SELECT CASE
              WHEN is_url OR value LIKE '/%' OR strpos(value, '//') > 0
                THEN split_part(split_part(value, '?', 1), '#', 1)
              ELSE value
            END AS path FROM ({values}) AS named(value, is_url) WHERE value <> '' OFFSET 0
          ) AS named
          WHERE CAST(:endings AS text[]) IS NULL OR right(path, {ending}) = ANY(CAST(:endings AS text[])) OFFSET 0
        ) AS named WHERE strpos(name, '%') > 0 OR name IN (SELECT unnest(CAST(:keys AS text[]))) OFFSET 0
      ) AS named OFFSET 0
    ) AS named OFFSET 0
  ) AS named OFFSET 0
) AS named
WHERE key IN (SELECT unnest(CAST(:keys AS text[]))) OR name IN (SELECT unnest(CAST(:root AS text[])))
"""


class References:
    """The columns of `COLUMNS` that this site has, as a sweep asks which of its files they name."""

    def __init__(self, job: JobContext, columns: Sequence[Column]) -> None:
        self._job, self._columns = job, columns
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def of(cls, job: JobContext) -> "References":
        async with job.transaction() as connection:
            return cls(job, await existing_columns(connection))

    def among(self, paths: Sequence[str]) -> set[str]:
        """Return those of these paths, relative to the root, that a row names; called by the thread of a sweep.

        Raises:
            RetryLater: when a table is locked.
            DBAPIError: when one cannot be read.
        """
        return asyncio.run_coroutine_threadsafe(self._among(paths), self._loop).result()

    async def _among(self, paths: Sequence[str]) -> set[str]:
        with retry_when_busy("the rows that name files"):
            async with self._job.transaction() as connection:
                await locks.set_timeouts(connection, statement=STATEMENT_TIMEOUT)
                return await named_files(connection, self._columns, paths)


async def existing_columns(connection: AsyncConnection) -> list[Column]:
    """Return those of `COLUMNS` that exist."""
    found = []
    for table in dict.fromkeys(each.table for each in COLUMNS):
        columns = {each.name: each for each in COLUMNS if each.table == table}
        names = (await connection.execute(EXISTING, {"table": table, "names": list(columns)})).scalars()
        found += [columns[name] for name in names]
    return found


async def named_files(connection: AsyncConnection, columns: Sequence[Column], paths: Sequence[str]) -> set[str]:
    """Return those of these paths, relative to the root, that a row names in one of these columns."""
    if not columns or not paths:
        return set()
    keys = {path: list(_keys(path)) for path in paths}
    parameters = {
        "keys": sorted({key for several in keys.values() for key in several}),
        "root": sorted({key for path, several in keys.items() if "/" not in path for key in several}),
        "endings": _endings(paths),
    }
    found = set((await connection.execute(_query(columns), parameters)).scalars())
    return {path for path, several in keys.items() if not found.isdisjoint(several)}


def _query(columns: Iterable[Column]) -> sa.TextClause:
    values = (f'SELECT "{each.name}"::text, {str(each.holds_urls).lower()} FROM "{each.table}"' for each in columns)
    text = NAMED.replace("{values}", " UNION ALL ".join(values)).replace("{encoded}", ENCODED.replace(":", r"\:"))
    return sa.text(text.replace("{mask}", MASK).replace("{ending}", str(ENDING)))


def _keys(path: str) -> Iterator[str]:
    """Yield what a value may end with that names this file: its name, or its folder and name; plain or encoded."""
    parts = path.rsplit("/", 2)[-2:]
    for key in dict.fromkeys((parts[-1], "/".join(parts))):
        masked = re.sub(ENCODED, MASK, key)
        yield masked
        if masked != key and not re.search(NOT_TEXT, key):
            yield key


def _endings(paths: Sequence[str]) -> list[str] | None:
    """Return how values that name these files may end; None when an encoder might change the end of one."""
    endings = {path.rpartition("/")[2][-ENDING:] for path in paths}
    return None if re.search(ENCODED, "".join(endings)) else sorted(endings)
