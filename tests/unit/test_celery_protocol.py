"""Decoding of Celery's message protocol."""

import json
import zlib
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from kombu.utils import json as kombu

from consumers.bridge import celery_protocol
from consumers.bridge.celery_protocol import MAX_BODY
from schemas.celery import CeleryTask

TASK = "clean_generated_media"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def read(body: Any = ((), {}, {}), *, form: str | None = "application/json", **headers: Any) -> CeleryTask:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return celery_protocol.read({"task": TASK, **headers}, raw, content_type=form, encoding="utf-8")


def refusal(body: Any = ((), {}, {}), **how: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the test checks its text
        read(body, **how)
    return str(caught.value)


def test_task_is_decoded_with_its_arguments():
    task = read([[1, "два"], {"days": 3}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])

    assert task == CeleryTask(task=TASK, args=[1, "два"], kwargs={"days": 3})


@pytest.mark.parametrize("name", ["eta", "expires"])
@pytest.mark.parametrize(
    "value", ["2026-01-31T12:00:00", "2026-01-31T12:00:00Z", "2026-01-31T14:00:00+02:00", NOON.replace(tzinfo=None)]
)
def test_naive_timestamp_means_utc(name: str, value: Any):
    assert getattr(read(**{name: value}), name) == NOON


@pytest.mark.parametrize("value", ["soon", 5, "", "0001-01-01T00:00:00+14:00"])
def test_invalid_timestamp_is_refused(value: Any):
    expected = f"eta is {value!r}: not a timestamp; write one such as 2026-01-31T02:00:00+00:00"
    assert refusal(eta=value) == expected


def test_typed_values_are_decoded():
    values = [NOON, date(2026, 1, 31), time(12, 30), Decimal("1.10"), UUID(int=7), b"bytes"]

    task = read(kombu.dumps([values, {"details": {"at": NOON}}, {}]).encode())

    assert task.args == [*values[:-1], "bytes"]
    assert task.kwargs == {"details": {"at": NOON}}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("datetime", "soon", 'value "soon": not a datetime'),
        ("decimal", "many", 'value "many": not a decimal'),
        ("uuid", "7", 'value "7": not a uuid'),
        ("uuid", {"hex": 7}, "value {'hex': 7}: not a uuid"),
        ("model", {}, 'value of type "model": unknown type; use one of datetime, date, time, decimal, uuid, bytes'),
        (["datetime"], "", "value of type ['datetime']: unknown type; use one of"),
    ],
)
def test_invalid_typed_value_is_refused(kind: Any, value: Any, expected: str):
    assert refusal([[{"__type__": kind, "__value__": value}], {}, {}]).startswith(expected)


@pytest.mark.parametrize(
    "form", ["application/x-python-serialize", "application/x-yaml", "application/x-msgpack", "text/plain", None]
)
def test_other_serializers_than_json_are_refused(form: str | None):
    expected = f'content type "{form}" is not accepted; set task_serializer = "json" in Celery'
    assert refusal(b"cos\nsystem\n", form=form) == expected


def test_unknown_content_encoding_is_refused():
    with pytest.raises(ValueError, match='content encoding "binary" is not accepted; use one of utf-8, us-ascii'):
        celery_protocol.read({"task": TASK}, b"[[], {}, {}]", content_type="application/json", encoding="binary")


def test_zlib_body_is_decompressed():
    assert read(zlib.compress(b"[[3], {}, {}]"), compression="application/x-gzip").args == [3]


def test_decompression_bomb_is_refused():
    bomb = zlib.compress(b" " * (MAX_BODY + 1))

    assert (
        refusal(bomb, compression="application/x-gzip") == f"the body is larger than {MAX_BODY} bytes when decompressed"
    )


@pytest.mark.parametrize(
    ("compression", "expected"),
    [
        (
            "application/x-bz2",
            'compression "application/x-bz2" is not accepted; set task_compression = "zlib" in Celery',
        ),
        ("application/x-gzip", "the body cannot be decompressed: "),
    ],
)
def test_other_compression_than_zlib_is_refused(compression: str, expected: str):
    assert refusal(b"[[], {}, {}]", compression=compression).startswith(expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{", "the body is not JSON: "),
        (b"", "the body is not JSON: "),
        (b"\xff", "'utf-8' codec can't decode"),
        ([[], {}], "the body is [[], {}]; send [args, kwargs, embed] (message protocol 2)"),
        ({"args": []}, "the body is {'args': []}; send [args, kwargs, embed] (message protocol 2)"),
        ([{}, [], {}], "the body is [{}, [], {}]; send [args"),
        (b"[[NaN], {}, {}]", "number nan: not a JSON number"),
        (b"[[1e999], {}, {}]", "number inf: not a JSON number"),
        ([["\x00"], {}, {}], "a text contains NUL or an unpaired surrogate, which the database cannot store"),
        ([[], {"a\x00": 1}, {}], "a text contains NUL"),
        (b'[["\\ud83d"], {}, {}]', "a text contains NUL or an unpaired surrogate"),
        (b"[" * 60 + b"]" * 60, "the body is nested too deeply; at most 40 levels"),
    ],
)
def test_invalid_body_is_refused(body: Any, expected: str):
    assert refusal(body).startswith(expected)


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_follow_up_tasks_are_refused(name: str):
    assert refusal([[], {}, {name: [{"task": TASK}]}]) == (
        f"follow-up tasks ({name}) are not supported; call each task separately"
    )


def test_protocol_1_is_refused_with_the_remedy():
    assert refusal({"task": TASK, "id": "1", "args": [], "kwargs": {}}, task=None) == (
        f'message protocol 1 ("{TASK}") is not accepted; set task_protocol = 2 in Celery'
    )


@pytest.mark.parametrize("name", [None, 5, "", "a\nb", "x" * 201])
def test_message_without_task_name_is_refused(name: Any):
    assert refusal(task=name).startswith(f'header "task" is {name!r:.200}: not the name of a task')
