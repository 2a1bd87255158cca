"""The form in which Celery sends a task."""

import json
import zlib
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from kombu.utils import json as kombu

from consumers.bridge import celery_protocol
from consumers.bridge.celery_protocol import LARGEST
from schemas.celery import CeleryTask

TASK = "clean_generated_media"
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def read(body: Any = ((), {}, {}), *, form: str | None = "application/json", **headers: Any) -> CeleryTask:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return celery_protocol.read({"task": TASK, **headers}, raw, content_type=form, encoding="utf-8")


def refusal(body: Any = ((), {}, {}), **how: Any) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  its words are what is tested
        read(body, **how)
    return str(caught.value)


def test_a_task_is_read_with_its_arguments():
    task = read([[1, "два"], {"days": 3}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])

    assert task == CeleryTask(task=TASK, args=[1, "два"], kwargs={"days": 3})


@pytest.mark.parametrize("name", ["eta", "expires"])
@pytest.mark.parametrize(
    "moment", ["2026-01-31T12:00:00", "2026-01-31T12:00:00Z", "2026-01-31T14:00:00+02:00", NOON.replace(tzinfo=None)]
)
def test_a_moment_without_a_zone_means_utc(name: str, moment: Any):
    assert getattr(read(**{name: moment}), name) == NOON


@pytest.mark.parametrize("moment", ["soon", 5, "", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_moment_is_refused(moment: Any):
    words = f"eta is {moment!r}; it must be a moment such as 2026-01-31T02:00:00+00:00"
    assert refusal(eta=moment) == words


def test_values_that_json_has_no_form_for_are_understood():
    values = [NOON, date(2026, 1, 31), time(12, 30), Decimal("1.10"), UUID(int=7), b"bytes"]

    task = read(kombu.dumps([values, {"details": {"at": NOON}}, {}]).encode())

    assert task.args == [*values[:-1], "bytes"]
    assert task.kwargs == {"details": {"at": NOON}}


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("datetime", "soon", "has 'soon' where a value of the type datetime should be"),
        ("decimal", "many", "has 'many' where a value of the type decimal should be"),
        ("uuid", "7", "has '7' where a value of the type uuid should be"),
        ("uuid", {"hex": 7}, "has {'hex': 7} where a value of the type uuid should be"),
        ("model", {}, "has a value of the type 'model'; known are datetime, date, time, decimal, uuid, bytes"),
        (["datetime"], "", "has a value of the type ['datetime']; known are"),
    ],
)
def test_a_typed_value_that_cannot_be_made_is_refused(kind: Any, value: Any, words: str):
    assert refusal([[{"__type__": kind, "__value__": value}], {}, {}]).startswith(words)


@pytest.mark.parametrize(
    "form", ["application/x-python-serialize", "application/x-yaml", "application/x-msgpack", "text/plain", None]
)
def test_only_json_is_read(form: str | None):
    words = f'is sent as "{form}", which is never read; set task_serializer = "json" (Celery)'
    assert refusal(b"cos\nsystem\n", form=form) == words


def test_another_encoding_is_refused():
    with pytest.raises(ValueError, match='has the content encoding "binary"; it must be one of utf-8, us-ascii'):
        celery_protocol.read({"task": TASK}, b"[[], {}, {}]", content_type="application/json", encoding="binary")


def test_what_zlib_packed_is_unpacked():
    assert read(zlib.compress(b"[[3], {}, {}]"), compression="application/x-gzip").args == [3]


def test_what_would_fill_the_memory_is_not_unpacked():
    bomb = zlib.compress(b" " * (LARGEST + 1))

    assert refusal(bomb, compression="application/x-gzip") == f"is larger than {LARGEST} bytes when it is unpacked"


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        ("application/x-bz2", 'is compressed as "application/x-bz2"; only zlib is read: set task_compression = "zlib"'),
        ("application/x-gzip", "cannot be unpacked: "),
    ],
)
def test_what_is_packed_otherwise_is_refused(compression: str, words: str):
    assert refusal(b"[[], {}, {}]", compression=compression).startswith(words)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is no JSON: "),
        (b"", "the body is no JSON: "),
        (b"\xff", "'utf-8' codec can't decode"),
        ([[], {}], "the body is [[], {}]; it must be [args, kwargs, embed] (message protocol 2)"),
        ({"args": []}, "the body is {'args': []}; it must be [args, kwargs, embed] (message protocol 2)"),
        ([{}, [], {}], "the body is [{}, [], {}]; it must be"),
        (b"[[NaN], {}, {}]", "has the number nan, which is none in JSON"),
        (b"[[1e999], {}, {}]", "has the number inf, which is none in JSON"),
        ([["\x00"], {}, {}], "has a text with NUL or half a surrogate pair, which the database cannot store"),
        ([[], {"a\x00": 1}, {}], "has a text with NUL"),
        (b'[["\\ud83d"], {}, {}]', "has a text with NUL or half a surrogate pair"),
        (b"[" * 60 + b"]" * 60, "is nested too deeply: more than 40 levels"),
    ],
)
def test_a_body_that_is_no_call_is_refused(body: Any, words: str):
    assert refusal(body).startswith(words)


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_a_task_that_others_follow_is_refused(name: str):
    assert refusal([[], {}, {name: [{"task": TASK}]}]) == (
        f"cannot be followed by others ({name}); call each task by itself"
    )


def test_protocol_1_is_refused_with_what_to_set():
    assert refusal({"task": TASK, "id": "1", "args": [], "kwargs": {}}, task=None) == (
        f'is sent in message protocol 1 ("{TASK}"); set task_protocol = 2 (Celery)'
    )


@pytest.mark.parametrize("name", [None, 5, "", "a\nb", "x" * 201])
def test_a_message_that_names_no_task_is_refused(name: Any):
    assert refusal(task=name).startswith(f'is no call of a task: the header "task" is {name!r:.200}')
