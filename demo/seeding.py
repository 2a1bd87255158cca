"""The content of the marketplace: tokens, files, sessions and ads, some of them old enough to be cleaned up."""

import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import redis

from demo import ads, moderation

DAY = 24 * 3600  # seconds
LONG_AGO, LATELY = 60, 1  # days; older than every retention, and than none

# Tokens expire 30 days after their issue, and are kept for 30 more.
EXPIRED, WITHIN_MARGIN, ALIVE = 70, 45, 3  # days since the issue
TOKENS = [
    {"count": 400, "issued_days_ago": EXPIRED, "blacklist": 150},
    {"count": 60, "issued_days_ago": EXPIRED, "kind": "sliding"},
    {"count": 200, "issued_days_ago": WITHIN_MARGIN, "blacklist": 80},
    {"count": 140, "issued_days_ago": ALIVE, "blacklist": 20},
]
OLD_PICTURES, NEW_PICTURES = 800, 400
PICTURES_PER_FOLDER = 50
AVATAR = "avatars/generated/avatar_1.webp"  # old, but a profile shows it
SHOW_AVATAR = """
INSERT INTO profiles (name, surname, avatar, avatar_url, user_id) SELECT '', '', '', %s, min(id) FROM auth_user
"""
STYLES = 20  # each in the previous release and in this one
ROTATED_LOGS = 6
EXPIRED_SESSIONS, SESSIONS = 150, 50
INACTIVE = 200  # days
ADS = {("sold", LATELY): 10, ("rejected", LATELY): 5, ("active", INACTIVE): 7, ("active", LATELY): 30}

COUNTS = """
SELECT (SELECT count(*) FROM token_blacklist_outstandingtoken), (SELECT count(*) FROM token_blacklist_blacklistedtoken),
  (SELECT count(*) FROM car_ads WHERE status <> 'archived'), (SELECT count(*) FROM currency_rates)
"""


Counts = dict[str, int]

# After every job: of static files this release, the originals and the manifest; of logs the newest of the series.
EXPECTED: Counts = {
    "tokens": 200 + 140,
    "blacklisted tokens": 80 + 20,
    "ads": 30 + len(moderation.ADS),
    "rates": 4 + 2,
    "pictures": NEW_PICTURES + 1,  # the avatar
    "static files": 2 * STYLES + 1,
    "logs": 1,
    "sessions": SESSIONS,
}


def seed(environment: Mapping[str, str], *, avatar: bool = True) -> Counts:
    """Fill what is empty.

    Args:
        avatar: an old picture that a profile shows. It must be kept, and `doctor` warns of it: the folder should hold
            generated files only.
    """
    if count(environment)["ads"] == 0:
        ads.prepare(environment["DATABASE_URL"])
        for (status, days), number in ADS.items():
            ads.add(environment["DATABASE_URL"], status, created=days, updated=days, count=number)
        moderation.seed(environment["DATABASE_URL"])
        if avatar:
            with psycopg.connect(environment["DATABASE_URL"]) as connection:
                connection.execute(SHOW_AVATAR.encode(), [f"/media/{AVATAR}"])
    for name, fill in (("MEDIA", _write_pictures), ("STATIC", _write_static_files), ("LOG", _write_logs)):
        root = Path(environment[f"POCKETWATCH_{name}_ROOT"])
        if not root.exists():
            fill(root)
            if avatar and name == "MEDIA":
                _write(root / AVATAR, b"RIFF" + bytes(2000), days_old=LONG_AGO)
    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        if client.dbsize() == 0:
            _create_sessions(client)
    return count(environment)


def count(environment: Mapping[str, str]) -> Counts:
    with psycopg.connect(environment["DATABASE_URL"]) as connection:
        counts = list(connection.execute(COUNTS.encode()).fetchall()[0])
    roots = [environment[f"POCKETWATCH_{name}_ROOT"] for name in ("MEDIA", "STATIC", "LOG")]
    counts += [sum(len(files) for _, _, files in os.walk(root)) for root in roots]
    with redis.Redis.from_url(environment["REDIS_URL"]) as client:
        counts.append(sum(1 for _ in client.scan_iter("user:session:*", count=1000)))
    return dict(zip(EXPECTED, counts, strict=True))


def _write(file: Path, content: bytes, *, days_old: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    modified_at = time.time() - days_old * DAY
    os.utime(file, (modified_at, modified_at))


def _write_pictures(root: Path) -> None:
    for number in range(OLD_PICTURES + NEW_PICTURES):
        days_old = LONG_AGO if number < OLD_PICTURES else LATELY
        _write(root / f"ads/{number // PICTURES_PER_FOLDER}/{number}.webp", b"RIFF" + bytes(2000), days_old=days_old)


def _write_static_files(root: Path) -> None:
    """Write what collectstatic leaves: originals, hashed files of this and the previous release, and the manifest."""
    paths = {}
    for number in range(STYLES):
        name, previous = f"css/{number}.css", f"css/{number}.{number:06x}aaaaaa.css"
        paths[name] = f"css/{number}.{number:06x}bbbbbb.css"
        for file in (name, previous, paths[name]):
            _write(root / file, b"body {}", days_old=LONG_AGO)
    manifest = {"paths": paths, "version": "1.1", "hash": "0123456789ab"}
    _write(root / "staticfiles.json", json.dumps(manifest).encode(), days_old=LATELY)


def _write_logs(root: Path) -> None:
    _write(root / "app.log", b"...", days_old=0)
    for number in range(1, ROTATED_LOGS + 1):
        _write(root / f"app.log.{number}", b"...", days_old=LONG_AGO + number)


def _create_sessions(client: "redis.Redis") -> None:
    """Create sessions as Auth.js does, without a TTL."""
    now = datetime.now(UTC)
    for number in range(EXPIRED_SESSIONS + SESSIONS):
        days = -LONG_AGO if number < EXPIRED_SESSIONS else 10
        expires = f"{now + timedelta(days=days):%Y-%m-%dT%H:%M:%S.000Z}"
        value = {"sessionToken": f"token-{number}", "userId": str(number), "expires": expires}
        client.set(f"user:session:token-{number}", json.dumps(value))
