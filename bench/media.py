"""Old generated media: our `cleanup.media`, the whole way through, against `find -delete`."""

import math
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from bench import jobs, programs, table
from bench.rounds import Contender, Sample, alternate
from bench.servers import FOLDER, Say, Servers, WorkNotDone
from consumers.cleanup.files.sweep import Sweep
from schemas.ticks import CleanMedia

TARGET = 1.5  # times as fast as find
FORESTS = FOLDER / "media"
PICTURES_PER_FOLDER = 50  # of one ad, generated at the same time
PICTURE = b"RIFF" + bytes(2000)
OLD, NEW = 30, 1  # days
DAY = 24 * 3600  # seconds


def run(servers: Servers, say: Say, *, quick: bool) -> Table:
    """The comparison: each run on an identical tree of its own, whose writing is over."""
    files, rounds = (10_000, 2) if quick else (100_000, 5)
    trees = iter(_plant(files, rounds))
    contenders = (
        Contender("Pocketwatch cleanup.media", OURS, lambda: _ours(servers, next(trees)), ours=True),
        Contender("find -delete", THEIRS, lambda: _theirs(servers, next(trees))),
    )
    say(f"  {2 * rounds} trees of {files:,} files are there")
    try:
        results = alternate(contenders, rounds=rounds, warm_up=True, say=say)
    finally:
        Sweep(root=FORESTS, older_than=math.inf).delete()  # quicker than rmtree, and nothing is measured any more
    find = subprocess.run(["find", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return table.compare(
        f"media: {files * 6 // 10:,} of {files:,} files are old, {PICTURES_PER_FOLDER} to a folder",
        results,
        caption=[f"{find}; {servers.versions()}; synced before each run, its directory entries in memory"],
        target=TARGET,
    )


OURS = (
    "surveys first, then one thread looks and six delete; empty folders go too; s: its run-log row, wall: from publish"
)
THEIRS = "find ROOT -xdev -type f -mtime +7 -delete; one thread; leaves empty folders"


@dataclass(frozen=True)
class Forest:
    """A tree of one run."""

    root: Path
    files: int

    @property
    def old(self) -> int:
        return self.files * 6 // 10

    def grow(self) -> None:
        """Whole folders are old, as the pictures of an ad are."""
        now = time.time()
        for number in range(self.files):
            folder = self.root / "ads" / f"{number // PICTURES_PER_FOLDER}"
            if number % PICTURES_PER_FOLDER == 0:
                folder.mkdir(parents=True)
            picture, moment = folder / f"{number}.webp", now - (OLD if number < self.old else NEW) * DAY
            picture.write_bytes(PICTURE)
            os.utime(picture, (moment, moment))

    def check(self) -> None:
        """Exactly the new ones are left."""
        left = {int(Path(name).stem) for _, _, names in os.walk(self.root) for name in names}
        if left != set(range(self.old, self.files)):
            raise WorkNotDone(
                f"{len(left)} files are left below {self.root}, should be the {self.files - self.old} new ones"
            )


def _plant(files: int, rounds: int) -> list[Forest]:
    """All trees before the first run: ext4 is slow to make files, for minutes, where some were just deleted."""
    shutil.rmtree(FORESTS, ignore_errors=True)
    sizes = [files // 10] * 2 + [files] * 2 * rounds  # small ones to warm up
    forests = [Forest(FORESTS / str(number), size) for number, size in enumerate(sizes)]
    for forest in forests:
        forest.grow()
    return forests


def _ours(servers: Servers, forest: Forest) -> Sample:
    with servers.database() as database:  # which also syncs
        settings = {"DATABASE_URL": servers.url(database), "POCKETWATCH_MEDIA_ROOT": str(forest.root)}
        done = jobs.measure(CleanMedia(), servers.environment(**settings))
    forest.check()
    return done.sample


def _theirs(servers: Servers, forest: Forest) -> Sample:
    os.sync()
    command = ["find", str(forest.root), "-xdev", "-type", "f", "-mtime", "+7", "-delete"]
    done = programs.run(command, servers.environment())
    forest.check()
    return Sample(done.seconds, peak=done.peak)
