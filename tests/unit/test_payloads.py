"""The arguments that the run log keeps: those that were set, where PostgreSQL can hold them."""

import json

import pytest

from pocketwatch.worker.payloads import MAX_SIZE, payload_of, payload_of_body
from schemas.celery import CeleryTask
from schemas.mail import MailRequested, MailUnsubscribed
from schemas.ticks import CleanTokens, Vacuum


def test_arguments_that_were_set_are_kept():
    message = CleanTokens.model_validate_json('{"retention_days": 7, "dry_run": true}')

    assert json.loads(payload_of(message) or "") == {"retention_days": 7, "dry_run": True}
    assert payload_of(CleanTokens()) == "{}"


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x" * MAX_SIZE])
def test_arguments_that_cannot_be_stored_are_not_kept(text: str):
    assert payload_of(Vacuum.model_construct({"tables"}, tables=[text])) is None


def test_refused_body_is_kept_when_it_is_json():
    assert json.loads(payload_of_body('{"retention_day": "є"}'.encode(), CleanTokens) or "") == {"retention_day": "є"}
    assert payload_of_body(b"[1, 2]", CleanTokens) == "[1, 2]"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'"\\u0000"',
        b'"\\ud800"',
        b"NaN",
        b"1e999",
        b"9" * 5_000,
        b"[" * 10_000 + b"]" * 10_000,
        b'"' + b"x" * MAX_SIZE + b'"',
    ],
)
def test_other_bodies_are_not_kept(body: bytes):
    assert payload_of_body(body, CleanTokens) is None


def test_long_list_of_tables_is_kept():
    assert json.loads(payload_of(Vacuum(tables=["car_ads"] * 100)) or "") == {"tables": ["car_ads"] * 100}


def test_private_arguments_are_not_kept():
    task = CeleryTask(task="t", task_id="an-id", args=["reader@example.com"], kwargs={"to": "reader@example.com"})

    assert json.loads(payload_of(task) or "") == {"task": "t", "task_id": "an-id"}
    assert payload_of(MailUnsubscribed(token="a.b.c")) == "{}"
    assert payload_of_body(b'{"too": "reader@example.com"}', MailRequested) is None


def test_addresses_and_tokens_are_private():
    for message_type in (MailRequested, MailUnsubscribed, CeleryTask):
        assert message_type.private <= set(message_type.model_fields)
