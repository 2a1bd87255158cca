"""What the small marketplace holds: tokens and generated pictures, of which some are due to go."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

# They expire 30 days after their issue, and are kept for 30 more.
EXPIRED, WITHIN_MARGIN, ALIVE = 70, 45, 3  # issued so many days ago
TOKENS = [
    {"count": 400, "issued_days_ago": EXPIRED, "blacklist": 150},
    {"count": 60, "issued_days_ago": EXPIRED, "kind": "sliding"},
    {"count": 200, "issued_days_ago": WITHIN_MARGIN, "blacklist": 80},
    {"count": 140, "issued_days_ago": ALIVE, "blacklist": 20},
]
OLD_PICTURES, NEW_PICTURES = 800, 400
PICTURES_PER_FOLDER = 50
DAY = 24 * 3600  # seconds
COUNTS = (
    "SELECT (SELECT count(*) FROM token_blacklist_outstandingtoken), "
    "(SELECT count(*) FROM token_blacklist_blacklistedtoken)"
)


@dataclass(frozen=True)
class Content:
    """How much of each there is."""

    outstanding: int
    blacklisted: int
    pictures: int


LEFT = Content(outstanding=200 + 140, blacklisted=80 + 20, pictures=NEW_PICTURES)  # when all clean-up is done


def seed(environment: dict[str, str]) -> str:
    """Fill an empty marketplace; one that holds something is left as it is.

    Returns:
        A line that says what there is.
    """
    root = Path(environment["POCKETWATCH_MEDIA_ROOT"])
    if not root.exists():
        _paint(root)
    if content(environment).outstanding == 0:
        _issue(environment)
    now = content(environment)
    return (
        f"{now.outstanding} tokens issued by simplejwt, {now.blacklisted} of them blacklisted; "
        f"{now.pictures} generated pictures"
    )


def content(environment: dict[str, str]) -> Content:
    """What there is, counted."""
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        outstanding, blacklisted = connection.execute(COUNTS).fetchone() or (0, 0)
    pictures = sum(len(files) for _, _, files in os.walk(environment["POCKETWATCH_MEDIA_ROOT"]))
    return Content(outstanding, blacklisted, pictures)


def _issue(environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "demo.marketplace", "issue"],
        env=environment,
        cwd=Path(__file__).parents[1],
        input=json.dumps(TOKENS),
        text=True,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _paint(root: Path) -> None:
    now = time.time()
    for number in range(OLD_PICTURES + NEW_PICTURES):
        is_old = number < OLD_PICTURES
        picture = root / f"ads/{number // PICTURES_PER_FOLDER}/{number}.webp"
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(b"RIFF" + bytes(2000))
        moment = now - (30 if is_old else 1) * DAY
        os.utime(picture, (moment, moment))
