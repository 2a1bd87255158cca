"""When a token expires: read from the token itself, and never guessed."""

import json
import math
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.cleanup.tokens.tokens import expiry_of, find_expired

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SOON = int(NOW.timestamp()) + 100


def segment(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def token(payload: Any, *, header: Any = {"alg": "HS256"}) -> str:  # noqa: B006  only read
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return f"{segment(json.dumps(header).encode())}.{segment(body)}.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("payload", "expiry"),
    [
        ({"exp": SOON}, SOON),
        ({"exp": SOON + 0.5}, SOON + 0.5),
        ({"exp": SOON * 1000}, SOON * 1000),
        ({"exp": 10**18}, 10**18),
        ({"exp": 10**400}, 10**400),
        ({"exp": 0}, 0),
        ({"exp": -5}, -5),
        ({"token_type": "sliding", "exp": SOON, "refresh_exp": SOON + 9}, SOON + 9),
        ({"token_type": "sliding", "exp": SOON, "refresh_exp": SOON - 9}, SOON),
        (b'{"exp": 1e3}', 1000.0),
        (b' {"exp": 7} ', 7),
        (b'{"exp": 1, "exp": 2}', 2),
    ],
)
def test_expiry_is_read_from_the_token(payload: Any, expiry: float):
    assert expiry_of(token(payload)) == expiry


@pytest.mark.parametrize(
    "payload",
    [
        {"exp": True},
        {"exp": str(SOON)},
        {"exp": None},
        {"exp": [SOON]},
        {"exp": {"at": SOON}},
        {},
        {"EXP": SOON},
        [SOON],
        "text",
        SOON,
        None,
        {"exp": SOON, "refresh_exp": "later"},
        {"exp": SOON, "refresh_exp": None},
        {"refresh_exp": SOON},
        b'{"exp": NaN}',
        b'{"exp": Infinity}',
        b'{"exp": 1e999}',
        b'{"exp": 12',
        b"\xff\xfe",
        b"",
    ],
)
def test_expiry_that_is_not_a_number_is_unreadable(payload: Any):
    assert expiry_of(token(payload)) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "a.!!!.c",
        "a.пароль.c",
        "a.b\x00.c",
        "не токен",
        segment(b'{"exp": 5}'),
        f"a.{segment(b'{}')}x.c",
    ],
)
def test_text_that_is_not_a_token_is_unreadable(text: str):
    assert expiry_of(text) is None


def test_token_without_signature_or_with_padding_is_read():
    padded = urlsafe_b64encode(b'{"exp":12345}').decode()

    assert padded.endswith("=")
    assert expiry_of(f"a.{padded}.c") == 12345
    assert expiry_of(jwt.encode({"exp": SOON}, None, algorithm="none")) == SOON


claims = st.dictionaries(
    st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=20), max_size=6
)


@given(claims, st.integers(0, 2**40), st.sampled_from(["HS256", "HS512"]))
@settings(max_examples=300, deadline=None)
def test_expiry_equals_what_pyjwt_reads(others: dict[str, Any], exp: int, algorithm: str):
    others.pop("refresh_exp", None)
    text = jwt.encode({**others, "exp": exp}, "k" * 64, algorithm=algorithm)

    options: Any = {"verify_signature": False}
    assert expiry_of(text) == jwt.decode(text, options=options)["exp"] == exp


@given(st.text(max_size=200) | st.binary(max_size=100).map(lambda data: f"a.{segment(data)}.c"))
@settings(max_examples=500, deadline=None)
def test_expiry_of_any_text_is_a_number_or_unreadable(text: str):
    expiry = expiry_of(text)

    assert expiry is None or (not isinstance(expiry, bool) and (isinstance(expiry, int) or math.isfinite(expiry)))


def page_of(*, days: int, expiry: float | None, column: float = 0.0, room: int | None = None) -> Any:
    return find_expired({1: expiry}, {1: column}, now=NOW, margin=timedelta(days=days), room=room)


@pytest.mark.parametrize(("offset", "expired"), [(-1, True), (0, False), (1, False)])
def test_token_is_expired_strictly_before_the_margin(offset: int, *, expired: bool):
    edge = int((NOW - timedelta(days=30)).timestamp())

    assert page_of(days=30, expiry=edge + offset).expired == ([1] if expired else [])


def test_token_within_the_margin_is_kept_and_counted():
    page = page_of(days=30, expiry=(NOW - timedelta(days=10)).timestamp())

    assert page.expired == []
    assert page.statistics == {"scanned": 1, "kept_within_margin": 1, "unreadable": 0}


def test_column_decides_only_for_an_unreadable_token():
    old, new = (NOW - timedelta(days=90)).timestamp(), NOW.timestamp() + 90

    assert page_of(days=30, expiry=None, column=old).expired == [1]
    assert page_of(days=30, expiry=None, column=new).expired == []
    assert page_of(days=30, expiry=new, column=old).expired == []
    assert page_of(days=30, expiry=None, column=old).statistics["unreadable"] == 1


def test_limit_takes_the_first_tokens():
    expiries: dict[int, float | None] = dict.fromkeys((1, 2, 3), 0)

    page = find_expired(expiries, {}, now=NOW, margin=timedelta(0), room=2)

    assert (page.expired, page.limited) == ([1, 2], True)
