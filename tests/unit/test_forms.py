"""Forms are made from the schema of a message, and read back into its arguments."""

import pytest

from console.operations import forms
from console.operations.bodies import InvalidBody
from pocketwatch.errors import InvalidMessage
from schemas.facts import RunFailed
from schemas.mail import MailRequested
from schemas.ticks import ArchiveAds, CleanMedia, CleanTokens, DailyReport, PlatformAnalytics, UpdateRates


def field(form: forms.Form, name: str) -> forms.FormField:
    return next(each for each in (*form.fields, *form.unknown) if each.name == name)


def test_input_fits_the_type_of_each_argument():
    rates, tokens = forms.of_values(UpdateRates), forms.of_values(CleanTokens)

    assert [(each.name, each.kind) for each in rates.fields] == [
        ("source", "select"),
        ("currencies", "list"),
        ("accept_moves", "check"),
        ("instead_of", "select"),
    ]
    assert field(rates, "source").options == ("NBU", "PRIVATBANK")
    days = field(tokens, "retention_days")
    assert (days.kind, days.value, days.minimum, days.maximum) == ("number", "30", 0, 3650)
    assert days.hint == "days to keep expired data; 0 to 3650; default: 30"
    assert field(tokens, "max_deleted").hint == "the most rows that one run may change; at least 1; optional"
    assert field(forms.of_values(CleanMedia), "max_share").kind == "decimal"
    assert field(forms.of_values(DailyReport), "day").kind == "date"
    assert field(forms.of_values(PlatformAnalytics), "locales").value == "uk\nen\nru"
    assert field(forms.of_values(MailRequested), "letter").kind == "json"


def test_arguments_are_read_from_a_form_without_defaults():
    sent = {
        "argument.retention_days": " 7 ",
        "present.dry_run": "1",
        "argument.dry_run": "true",
        "argument.max_deleted": "",
        "argument.after_id": "0",
        "csrf_token": "x",
    }

    assert forms.read(CleanTokens, sent) == {"retention_days": 7, "dry_run": True}
    assert forms.read(CleanTokens, {"present.dry_run": "1"}) == {}
    assert forms.read(PlatformAnalytics, {"argument.locales": "en\r\n ru \n"}) == {"locales": ["en", "ru"]}
    assert forms.read(CleanMedia, {"argument.max_share": "0.5"}) == {"max_share": 0.5}


def test_what_is_wrong_is_beside_its_field():
    arguments = forms.read(CleanTokens, {"argument.retention_days": "soon", "argument.after_id": "-1"})

    with pytest.raises(InvalidBody) as refused:
        forms.validate(CleanTokens, arguments)

    form = forms.of_values(CleanTokens, arguments, refused.value.fields)
    assert field(form, "retention_days").value == "soon"
    assert field(form, "retention_days").error == 'retention_days is "soon": must be a valid integer'
    assert field(form, "after_id").error == "after_id is -1: must be greater than or equal to 0"
    assert form.has_errors


def test_unknown_arguments_are_shown_with_their_error_and_can_be_left_out():
    body = {"retention_day": 7, "dry_run": True}
    with pytest.raises(InvalidBody) as refused:
        forms.validate(ArchiveAds, {**body, "inactive_days": 0})

    form = forms.of_values(ArchiveAds, body, refused.value.fields)

    assert field(form, "retention_day").error.startswith('unknown field "retention_day"')
    assert field(form, "dry_run").is_checked
    assert forms.read(ArchiveAds, {"argument.retention_day": "", "argument.inactive_days": "9"}) == {"inactive_days": 9}


def test_jobs_and_events_can_be_triggered_but_facts_not():
    jobs, events = forms.triggerable()

    assert CleanTokens in jobs
    assert MailRequested in events
    assert RunFailed not in (*jobs, *events)
    with pytest.raises(InvalidMessage, match="states what has happened"):
        forms.schema_for("run.failed")
    with pytest.raises(InvalidMessage, match=r"did you mean .cleanup\.tokens"):
        forms.schema_for("cleanup.token")
