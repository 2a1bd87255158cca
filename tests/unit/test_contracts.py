"""The contracts of the messages: complete, valid, and as checked in."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from faststream.specification.asyncapi.v3_0_0.schema import ApplicationSchema

from console import contracts
from consumers.app import consumers_of
from pocketwatch.broker.topology import TOPOLOGY
from schemas.catalogue import CATALOGUE
from schemas.ticks import CleanTokens

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RENEW = "run: make docs"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return contracts.asyncapi_document()


def test_document_has_every_queue_and_every_published_message(document: dict[str, Any]):
    operations = {(each["action"], name.partition(".")[2]) for name, each in document["operations"].items()}

    takes = {("receive", each.queue.name) for each in consumers_of()}
    assert operations == takes | {("send", key) for key in CATALOGUE}
    assert {name for action, name in operations if action == "receive"} >= {each.name for each in TOPOLOGY.queues}


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]):
    found = set(references(document))

    assert len(found) > 100
    for reference in found:
        target: Any = document
        for name in reference.removeprefix("#/").split("/"):
            assert name in target, reference
            target = target[name]


def test_document_is_asyncapi_3(document: dict[str, Any]):
    assert document["asyncapi"] == "3.0.0"
    ApplicationSchema.model_validate(document)
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_schemas_accept_what_the_messages_accept():
    schemas = dict(contracts.schemas())
    received = jsonschema.Draft202012Validator(schemas["receive/cleanup.tokens.json"])

    assert received.is_valid(CleanTokens(retention_days=7).payload())
    assert received.is_valid({})
    assert not received.is_valid({"retention_day": 7})
    assert len(schemas) == len(consumers_of()) + len(CATALOGUE)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_checked_in_contracts_are_current(document: dict[str, Any]):
    assert (DOCS / "asyncapi.json").read_text("utf-8") == contracts.as_text(document), RENEW
    schemas = {name: contracts.as_text(schema) for name, schema in contracts.schemas()}
    folder = DOCS / "schemas"
    found = {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in folder.rglob("*.json")}
    assert found == schemas, RENEW


def test_faststream_documents_the_consumers(tmp_path: Path):
    out = tmp_path / "asyncapi.json"
    command = [sys.executable, "-m", "faststream", "docs", "gen", "consumers.app:app", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    made = json.loads(out.read_text())

    assert made["asyncapi"] == "3.0.0"
    addresses = {channel["address"].partition(":")[0] for channel in made["channels"].values()}
    assert addresses >= {each.queue.name for each in consumers_of()}


def test_application_is_made_only_when_it_is_asked_for():
    code = "import sys, consumers.app; assert 'pocketwatch.worker.app' not in sys.modules; consumers.app.nothing"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)

    assert done.stderr.splitlines()[-1] == "AttributeError: module 'consumers.app' has no attribute 'nothing'"
