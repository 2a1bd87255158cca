"""What goes over the wire of a message that Python code has made."""

import json

from schemas.emails import Plain
from schemas.mail import MailRequested
from schemas.ticks import CleanTokens, PlatformAnalytics


def test_arguments_that_nobody_gave_are_left_to_the_reader():
    assert CleanTokens().payload() == {}
    assert CleanTokens(dry_run=True).payload() == {"dry_run": True}
    assert PlatformAnalytics(locales=("en",)).payload() == {"locales": ["en"]}


def test_an_argument_is_said_whole_with_what_it_leaves_to_its_own_defaults():
    wish = MailRequested(to="owner@example.com", letter=Plain(subject="Hello", paragraphs=["by hand"]))

    said = wish.payload()

    assert said.keys() == {"to", "letter"}
    assert said["letter"]["name"] == "plain"
    assert MailRequested.model_validate_json(json.dumps(said)) == wish
