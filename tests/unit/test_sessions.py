"""Session keys: which may be read, what their values say, and how they are changed."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.cleanup.sessions import keys
from consumers.cleanup.sessions.keys import (
    ExpiryRule,
    Patterns,
    expiry_of,
    is_pointer,
    is_protected,
    pointer,
)
from consumers.cleanup.sessions.redis_store import KeyPage, share_passed
from pocketwatch import settings
from pocketwatch.errors import SettingsError

DEFAULTS = settings.Sessions().key_patterns
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def patterns_refused(tmp_path: Path, patterns: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings.load({"POCKETWATCH_SESSION_KEY_PATTERNS": patterns}, folder=tmp_path)
    return str(caught.value)


@pytest.mark.parametrize(
    "pattern",
    [
        "user:*",
        "user*",
        "user:s*",
        "user:session*",
        "user:email:*",
        "user:account:*",
        "user:account:by-user-id:*",
        "user:1",
        "users:*",
        "user-id:by-email:*",
        "account:*",
        "acco*",
        "account-ids:*",
        "authenticator:*",
        "auth*",
        "base:user:*",
        "base:u*",
        "my:base:account:*",
    ],
)
def test_pattern_that_could_match_users_or_accounts_is_refused(tmp_path: Path, pattern: str):
    words = patterns_refused(tmp_path, f"session:*,{pattern}")

    assert f'"{pattern}" ' in words
    assert "could match users or accounts; name sessions only, such as user:session:*" in words


@pytest.mark.parametrize("pattern", ["*", "", "use*", "*session:*", "se?sion:*"])
def test_pattern_with_an_early_wildcard_is_refused(tmp_path: Path, pattern: str):
    assert "must begin with 4 characters or more that are no wildcard" in patterns_refused(tmp_path, f"{pattern},")


@pytest.mark.parametrize("pattern", ["session:[ab]*", "use\\r:*", "session:\x00*"])
def test_unsupported_wildcards_are_refused(tmp_path: Path, pattern: str):
    assert "must be plain text; its wildcards are * and ? only" in patterns_refused(tmp_path, pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *DEFAULTS,
        "base:user:session:*",
        "session-ids:*",
        "user_sessions:*",
        "sess:*",
        "authjs:session:*",
        "session:user:*",
    ],
)
def test_pattern_of_sessions_is_accepted(tmp_path: Path, pattern: str):
    loaded = settings.load({"POCKETWATCH_SESSION_KEY_PATTERNS": f"{pattern}, session:*"}, folder=tmp_path)

    assert loaded.sessions.key_patterns == (pattern, "session:*")


@pytest.mark.parametrize(
    "key",
    [
        b"user:1",
        b"user:email:a@example.org",
        b"user:account:google:1",
        b"user:account:by-user-id:1",
        b"user:session",
        b"user-id:by-email:a@example.org",
        b"account:google:1",
        b"account-ids:by-user-id:1",
        b"authenticator:id:1",
        b"authenticator:by-user-id:1",
        b"base:user:1",
        b"base:account:x",
        b"sess:user:1",
        b"\xff:user:\xfe",
    ],
)
def test_users_accounts_and_authenticators_are_protected_under_any_prefix(key: bytes):
    assert is_protected(key)


@pytest.mark.parametrize(
    "key",
    [
        b"user:session:t",
        b"user:session:by-user-id:1",
        b"user:token:a@example.org:user:1",
        b"session:t",
        b"session:user:1",
        b"session-ids:by-user-id:1",
        b"verification-token:user:1",
        b"base:user:session:t",
        b"user_sessions:1",
        b"superuser:1",
    ],
)
def test_sessions_and_tokens_are_not_protected(key: bytes):
    assert not is_protected(key)


def test_key_belongs_to_the_first_matching_pattern():
    patterns = Patterns(["user:session:by-user-id:*", "user:session:*", "user:session:*", "ses?ion:a.c*"])

    assert patterns.texts == ("user:session:by-user-id:*", "user:session:*", "ses?ion:a.c*")
    assert patterns.owner(b"user:session:by-user-id:1") == "user:session:by-user-id:*"
    assert patterns.owner(b"user:session:\xff\n") == "user:session:*"
    assert patterns.owner(b"session:a.c\n1") == "ses?ion:a.c*"
    assert patterns.owner(b"session:abc") is None
    assert patterns.owner(b"base:user:session:1") is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T10:11:12.345Z", datetime(2026, 1, 31, 10, 11, 12, 345_000, tzinfo=UTC)),
        ("2026-01-31T10:11:12Z", datetime(2026, 1, 31, 10, 11, 12, tzinfo=UTC)),
        ("2026-01-31T10:11:12+02:00", datetime(2026, 1, 31, 8, 11, 12, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59.999Z", datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
    ],
)
def test_iso_8601_expiry_is_read_from_json_and_hashes(text: str, moment: datetime | None):
    value = b"s" + json.dumps({"sessionToken": "t", "userId": 1, "expires": text}).encode()

    assert expiry_of(value) == expiry_of(b"h" + text.encode())
    if moment is None:
        assert expiry_of(value) is not None  # before the year 1, in UTC, is still a moment
    else:
        assert expiry_of(value) == (moment - keys.EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "expires",
    [
        1_700_000_000,
        1_700_000_000_000,
        1.5,
        True,
        None,
        "",
        "soon",
        "1700000000",
        "1700000000000",
        "2026-01-31",
        "2026-01-31T10:11:12",
        "2026-02-30T10:11:12Z",
        "Sat, 31 Jan 2026 10:11:12 GMT",
        "+275760-09-13T00:00:00.000Z",
        ["2026-01-31T10:11:12Z"],
        {"$date": "2026-01-31T10:11:12Z"},
    ],
)
def test_ambiguous_expiry_is_not_guessed(expires: object):
    assert expiry_of(b"s" + json.dumps({"expires": expires}).encode()) is None


@pytest.mark.parametrize(
    "found",
    [
        b"s",
        b"s{",
        b"s{}",
        b"snull",
        b"s[]",
        b's"2026-01-31T10:11:12Z"',
        b"s2026-01-31T10:11:12Z",
        b's{"expires_at": "2026-01-31T10:11:12Z"}',
        b's{"expires": "2026-01-31T10:11:12Z"',
        b's{"session": {"expires": "2026-01-31T10:11:12Z"}}',
        b"s\xff\xfe",
        b"s" + b"[" * 10_000,
        b"h",
        b"h\xff",
        b"h1700000000",
        b"l",
        b"o",
    ],
)
def test_value_without_an_expiry_is_unreadable(found: bytes):
    assert expiry_of(found) is None


@given(st.binary())
def test_any_value_can_be_read(value: bytes):
    for kind in (b"s", b"h", b"l", b"o"):
        expiry_of(kind + value)
        pointer(b"user:session:by-user-id:1", kind + value)


def found(expires: datetime) -> bytes:
    return b's{"expires": "%s"}' % expires.isoformat().encode()


@pytest.mark.parametrize(
    ("later", "deleted"),
    [
        (timedelta(microseconds=-1), True),
        (timedelta(seconds=-1), True),
        (timedelta(0), False),
        (timedelta(microseconds=1), False),
        (timedelta(seconds=1), False),
    ],
)
@pytest.mark.parametrize("days", [0, 30])
def test_only_keys_expired_before_the_retention_are_deleted(later: timedelta, deleted: bool, days: int):  # noqa: FBT001
    rule = ExpiryRule.of(NOW, timedelta(days=days))

    change = rule.change(b"session:t", found(NOW - timedelta(days=days) + later))

    assert change is not None
    assert (change.expire_at is None) is deleted


def test_kept_key_gets_a_ttl_of_its_expiry_plus_the_retention():
    rule = ExpiryRule.of(NOW, timedelta(days=30))

    change = rule.change(b"session:t", found(datetime(2026, 11, 30, 1, 2, 3, 456_001, tzinfo=UTC)))

    assert change is not None
    assert change.expire_at == round(datetime(2026, 12, 30, 1, 2, 3, 457_000, tzinfo=UTC).timestamp() * 1000)


def test_expiry_in_the_year_9999_is_accepted():
    change = ExpiryRule.of(NOW, timedelta(days=3650)).change(b"session:t", found(datetime(9999, 12, 31, tzinfo=UTC)))

    assert change is not None
    assert change.expire_at is not None
    assert change.expire_at > 253_402_000_000_000


@pytest.mark.parametrize(
    ("key", "value", "targets"),
    [
        (b"user:session:by-user-id:1", b"suser:session:t", (b"user:session:t", b"user:session:t")),
        (b"user:session:by-user-id:1", b's"user:session:t"', (b"user:session:t", b"user:session:t")),
        (b"base:user:session:by-user-id:1", b"suser:session:t", (b"user:session:t", b"base:user:session:t")),
        (b"p:user:session:by-user-id:1", b"sp:user:session:t", (b"p:user:session:t", b"p:user:session:t")),
        (b"session:by-user-id:1", b"ssession:t", (b"session:t", b"session:t")),
    ],
)
def test_pointer_names_a_session_with_or_without_prefix(key: bytes, value: bytes, targets: tuple[bytes, bytes]):
    read = pointer(key, value)

    assert read is not None
    assert (read.key, read.found, read.targets) == (key, value, targets)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"user:session:by-user-id:1", b"s"),
        (b"user:session:by-user-id:1", b"st"),
        (b"user:session:by-user-id:1", b"suser:1"),
        (b"user:session:by-user-id:1", b"ssession:t"),
        (b"p:user:session:by-user-id:1", b"sq:user:session:t"),
        (b"user:session:by-user-id:1", b"suser:session:"),
        (b"user:session:by-user-id:1", b"suser:session:by-user-id:2"),
        (b"user:session:by-user-id:1", b's"user:session:t'),
        (b"user:session:by-user-id:1", b"huser:session:t"),
        (b"user:session:by-user-id:1", b"l"),
        (b"user:session:by-user-id:", b"suser:session:t"),
        (b"other:by-user-id:1", b"suser:session:t"),
    ],
)
def test_value_that_names_no_session_is_not_a_pointer(key: bytes, value: bytes):
    assert pointer(key, value) is None


def test_pointers_and_lists_are_distinguished_from_sessions():
    assert is_pointer(b"user:session:by-user-id:1")
    assert is_pointer(b"session-ids:by-user-id:1")
    assert not is_pointer(b"user:session:t")


def test_share_passed_by_scan_only_grows():
    """Redis counts buckets from the highest bit of its cursor down; here, those of a table of sixteen."""
    cursors = [8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15]

    assert [share_passed(cursor) for cursor in cursors] == [number / 16 for number in range(1, 16)]
    assert share_passed(0) == 1.0
    assert KeyPage([], share_passed(0)).is_last
    assert not KeyPage([], share_passed(15)).is_last
