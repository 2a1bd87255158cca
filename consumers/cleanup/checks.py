"""Which files below the media root rows name, for `pocketwatch doctor`."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path

from consumers.cleanup.files.folder import readable
from consumers.cleanup.files.references import COLUMNS, existing_columns, named_files
from pocketwatch import command
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings
from pocketwatch.storage import locks

SAMPLE_FILES, SAMPLE_FOLDERS, SAMPLE_OF_FOLDER = 1000, 200, 100
STATEMENT_TIMEOUT = timedelta(seconds=20)
FORMER = "the former task cleaned the folder generated_media beside MEDIA_ROOT, and only its top level"


async def check(settings: Settings) -> AsyncIterator[Finding]:
    root = settings.files.media_root
    if root is None or not root.is_dir():
        return  # the check of the folders says so
    files = await asyncio.to_thread(_sample, root)
    async with command.database(settings, "doctor") as database, database.begin() as connection:
        await locks.set_timeouts(connection, statement=STATEMENT_TIMEOUT)
        columns = await existing_columns(connection)
        named = sorted(await named_files(connection, columns, files))
    if not columns:
        tables = ", ".join(dict.fromkeys(each.table for each in COLUMNS))
        remedy = "so cleanup.media keeps none for them; is DATABASE_URL that of the marketplace?"
        yield Finding("media", "warning", f"no table names files here ({tables}), {remedy}")
    elif named:
        found = f"rows name {len(named)} of {len(files)} files looked at below {root}, such as {readable(named[0])}"
        yield Finding("media", "warning", f"{found}; cleanup.media keeps them, but {FORMER}")
    else:
        yield Finding("media", "ok", f"no row names any of the {len(files)} files looked at below {root}")


def _sample(root: Path) -> list[str]:
    """Return the paths of some files below a folder, of each folder in it a few."""
    found: list[str] = []
    folders = deque([""])
    for _ in range(SAMPLE_FOLDERS):
        if not folders or len(found) >= SAMPLE_FILES:
            break
        folder = folders.popleft()
        with suppress(OSError), os.scandir(root / folder) as entries:
            for entry in islice(entries, SAMPLE_OF_FOLDER):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{folder}{entry.name}/")
                elif entry.is_file(follow_symlinks=False):
                    found.append(folder + entry.name)
    return found
