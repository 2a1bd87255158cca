"""cleanup.media keeps what the rows of the platform name, as the platform's own models write it."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from consumers.cleanup.files import sweep
from consumers.cleanup.files.counters import SweepCounters
from consumers.cleanup.files.references import COLUMNS, References, named_files
from consumers.cleanup.files.sweep import TreeSweeper
from demo import ads
from pocketwatch.storage import locks
from pocketwatch.storage.database import Database
from schemas.ticks import CleanMedia
from tests.fixtures.site import Site
from tests.fixtures.suite import Deliver, Program


def put(path: Path, *, days_old: float = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 10)
    moment = time.time() - days_old * 86400
    os.utime(path, (moment, moment))


def left(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def name_in_rows(database_url: str, *values: str) -> None:
    """Have profiles name these in `avatar_url`."""
    with psycopg.connect(database_url) as connection:
        for value in values:
            connection.execute(
                "INSERT INTO profiles (name, surname, avatar, avatar_url, user_id) "
                "SELECT '', '', '', %s, min(id) FROM auth_user WHERE id NOT IN (SELECT user_id FROM profiles)",
                [value],
            )


async def test_files_that_the_models_of_the_site_name_are_kept(
    deliver: Deliver, site: Site, media: Path, database_url: str
):
    ads.prepare(database_url)
    ads.add(database_url, "active", created=1, updated=1)
    stored = replace(site, environment=site.environment | {"MEDIA_ROOT": str(media)}).call("media.store", days_old=30)
    put(media / "avatars/generated/nobodys.png")

    dry = await deliver(CleanMedia(dry_run=True))
    row = await deliver(CleanMedia())

    assert row["statistics"] == dry["statistics"]
    assert row["statistics"]["kept_referenced"] == len(stored) == len(COLUMNS)
    assert row["statistics"]["files_deleted"] == 1
    assert left(media) == set(stored)


@pytest.mark.parametrize(
    ("value", "file"),
    [
        ("ads/images/a.jpg", "ads/images/a.jpg"),
        ("/media/ads/images/a.jpg", "ads/images/a.jpg"),
        ("/api/media/avatars/generated/a.png", "avatars/generated/a.png"),
        ("https://cars.example/media/x/a.png?v=1", "x/a.png"),
        ("//cdn.example/x/a.png#top", "x/a.png"),
        ("https://cdn.example/a.png", "a.png"),
        ("/files/uploads/a.png", "a.png"),  # MEDIA_ROOT's own folder has another name than MEDIA_URL
        ("https://cars.example/media/%D1%84%D0%BE%D1%82%D0%BE/1%20%281%29.png", "фото/1 (1).png"),
        ("/media/%d1%84.%d1%84%d1%84", "ф.фф"),
        ("https://storage.example/o/avatars%2Fa%2Bb.png?alt=media", "avatars/a+b.png"),
        ("avatars/100%.png", "avatars/100%.png"),
        ("/media/avatars/generated/a.png", "site/media/avatars/generated/a.png"),  # the root is above MEDIA_ROOT
        ("/uploads/a.png", "site/files/a.png"),
        ("/media/avatars/generated/a.png", "a.png"),  # the root is in MEDIA_ROOT
    ],
)
async def test_every_spelling_of_a_name_counts(database: Database, database_url: str, value: str, file: str):
    name_in_rows(database_url, value)

    async with database.begin() as connection:
        found = await named_files(connection, COLUMNS, [file, f"other/{Path(file).stem}x.png"])

    assert found == {file}


@pytest.mark.parametrize(
    ("value", "file"),
    [
        ("/media/ads/17/1.jpg", "ads/18/1.jpg"),
        ("ads/17/1.jpg", "ads/18/1.jpg"),
        ("https://cars.example/media/ads/17/1.jpg", "ads/17/1.jpg.bak"),
        ("https://image.example/prompt/a%20car?path=/ads/17/1.jpg", "ads/17/1.jpg"),
        ("", "ads/17/1.jpg"),
    ],
)
async def test_other_files_do_not_count(database: Database, database_url: str, value: str, file: str):
    name_in_rows(database_url, value)

    async with database.begin() as connection:
        assert await named_files(connection, COLUMNS, [file]) == set()


@pytest.mark.parametrize("column", ["image", "avatar", "logo"])
async def test_signs_of_a_url_in_a_stored_name_belong_to_the_name(database: Database, database_url: str, column: str):
    sql = {
        "image": """INSERT INTO ads_addimagemodel (image, "order", is_primary, caption, ad_id)
                    VALUES (%s, 0, false, '', 1)""",
        "avatar": "INSERT INTO profiles (name, surname, avatar, user_id) VALUES ('', '', %s, 1)",
        "logo": "INSERT INTO ads_carmake (name, logo, is_popular, vehicle_type_id) VALUES ('', %s, false, 1)",
    }
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")  # no ad, no type
        connection.execute(sql[column].encode(), ["#1?/a?b.jpg"])

    async with database.begin() as connection:
        assert await named_files(connection, COLUMNS, ["#1?/a?b.jpg", "#1?/a"]) == {"#1?/a?b.jpg"}


async def test_name_that_is_not_text_is_compared_by_what_is(database: Database, database_url: str):
    name_in_rows(database_url, "/media/x/caf%E9.jpg")
    file = os.fsdecode(b"x/caf\xe9.jpg")

    async with database.begin() as connection:
        assert await named_files(connection, COLUMNS, [file]) == {file}


async def test_row_that_appears_after_the_survey_keeps_its_file(
    deliver: Deliver, database_url: str, media: Path, monkeypatch: pytest.MonkeyPatch
):
    put(media / "x/a.png")
    put(media / "x/b.png")
    run, passes = TreeSweeper.run, iter((False, True))

    def name_them_after_the_survey(self: TreeSweeper) -> SweepCounters:
        if next(passes):
            name_in_rows(database_url, "/media/x/a.png", "https://cars.example/media/x/b.png")
        return run(self)

    monkeypatch.setattr(TreeSweeper, "run", name_them_after_the_survey)
    row = await deliver(CleanMedia())

    assert (row["status"], row["statistics"]["files_deleted"], row["statistics"]["kept_referenced"]) == (
        "succeeded",
        0,
        2,
    )
    assert left(media) == {"x/a.png", "x/b.png"}


async def test_file_that_is_written_while_rows_are_read_is_kept(
    deliver: Deliver, media: Path, monkeypatch: pytest.MonkeyPatch
):
    put(media / "a.png")
    put(media / "b.png")
    among = References.among

    def then_write(self: References, paths: Sequence[str]) -> set[str]:
        found = among(self, paths)
        put(media / "a.png", days_old=0)
        return found

    monkeypatch.setattr(References, "among", then_write)
    row = await deliver(CleanMedia())

    assert row["status"] == "succeeded"
    assert left(media) == {"a.png"}


async def test_site_without_these_tables_is_cleaned(deliver: Deliver, database_url: str, media: Path):
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "DROP TABLE ads_addimagemodel; ALTER TABLE profiles DROP avatar; ALTER TABLE ads_carmake DROP logo"
        )
    name_in_rows_without_avatar = (
        "INSERT INTO profiles (name, surname, avatar_url, user_id) VALUES ('', '', 'x/a.png', 1)"
    )
    with psycopg.connect(database_url) as connection:
        connection.execute(name_in_rows_without_avatar.encode())
    put(media / "x/a.png")
    put(media / "x/b.png")

    row = await deliver(CleanMedia())

    assert (row["status"], row["statistics"]["kept_referenced"]) == ("succeeded", 1)
    assert left(media) == {"x/a.png"}


async def test_column_that_cannot_be_read_fails_the_run(deliver: Deliver, database_url: str, media: Path):
    with psycopg.connect(database_url) as connection:  # what a view reads is checked for its owner
        connection.execute("ALTER TABLE profiles RENAME TO hidden; CREATE VIEW profiles AS SELECT * FROM hidden")
        connection.execute("ALTER VIEW profiles OWNER TO pg_monitor")
    put(media / "a.png")

    row = await deliver(CleanMedia())

    assert row["status"] == "failed"
    assert "permission denied" in row["error"]
    assert left(media) == {"a.png"}


async def test_locked_table_postpones_the_run(
    deliver: Deliver, database_url: str, media: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", timedelta(milliseconds=100))
    put(media / "a.png")
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE profiles IN ACCESS EXCLUSIVE MODE")
        row = await deliver(CleanMedia())

    assert row["status"] == "skipped"
    assert "locked by another session" in row["error"]
    assert left(media) == {"a.png"}


async def test_kept_files_do_not_count_as_a_share(
    deliver: Deliver, database_url: str, media: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sweep, "SHARE_APPLIES_ABOVE", 10)
    for n in range(19):
        put(media / f"x/{n}.png")
    name_in_rows(database_url, *(f"/media/x/{n}.png" for n in range(17)))

    row = await deliver(CleanMedia(max_share=0.5))

    assert (row["status"], row["statistics"]["files_deleted"]) == ("succeeded", 2)
    assert len(left(media)) == 17


async def test_batches_are_small_enough_to_hold_their_folders_open(
    deliver: Deliver, database_url: str, media: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sweep, "CHECK_FILES", 5)
    monkeypatch.setattr(sweep, "CHECK_FOLDERS", 3)
    for n in range(20):
        put(media / f"{n}/deep/{n}.png")
        put(media / f"flat/{n}.png")
    name_in_rows(database_url, "/media/deep/7.png")
    sizes = []
    among = References.among

    def remember(self: References, paths: Sequence[str]) -> set[str]:
        sizes.append(len({path.rpartition("/")[0] for path in paths}))
        return among(self, paths)

    monkeypatch.setattr(References, "among", remember)
    row = await deliver(CleanMedia())

    assert max(sizes) == 3
    assert row["statistics"]["kept_referenced"] == 1
    assert left(media) == {"7/deep/7.png"}


def media_finding(pocketwatch: Program) -> tuple[str, str]:
    findings = json.loads(pocketwatch("doctor", "--json").stdout)
    return next((each["result"], each["detail"]) for each in findings if each["subject"] == "media")


def test_doctor_warns_of_named_files_below_the_root(pocketwatch: Program, database_url: str, media: Path):
    put(media / "x/a.png")
    for n in range(3):
        put(media / f"avatars/generated/{n}.png")
    before = media_finding(pocketwatch)
    name_in_rows(database_url, "/api/media/avatars/generated/0.png", "/api/media/avatars/generated/2.png")

    after = media_finding(pocketwatch)

    assert before == ("ok", f"no row names any of the 4 files looked at below {media}")
    assert after == (
        "warning",
        (
            f"rows name 2 of 4 files looked at below {media}, such as avatars/generated/0.png; cleanup.media keeps "
            "them, but the former task cleaned the folder generated_media beside MEDIA_ROOT, and only its top level"
        ),
    )


def test_doctor_warns_where_nothing_names_files(pocketwatch: Program, database_url: str):
    with psycopg.connect(database_url) as connection:
        connection.execute("DROP TABLE ads_addimagemodel, profiles; ALTER TABLE ads_carmake DROP logo")

    result, detail = media_finding(pocketwatch)

    assert result == "warning"
    assert detail.startswith("no table names files here (ads_addimagemodel, profiles, ads_carmake), so cleanup.media")
