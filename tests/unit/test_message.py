"""The bodies of messages."""

import json

from schemas.emails import PlainEmail
from schemas.mail import MailRequested
from schemas.ticks import CleanTokens, PlatformAnalytics


def test_payload_omits_arguments_that_were_not_set():
    assert CleanTokens().payload() == {}
    assert CleanTokens(dry_run=True).payload() == {"dry_run": True}
    assert PlatformAnalytics(locales=("en",)).payload() == {"locales": ["en"]}


def test_payload_includes_nested_defaults():
    message = MailRequested(to="owner@example.com", letter=PlainEmail(subject="Hello", paragraphs=["by hand"]))

    payload = message.payload()

    assert payload.keys() == {"to", "letter"}
    assert payload["letter"]["name"] == "plain"
    assert MailRequested.model_validate_json(json.dumps(payload)) == message
