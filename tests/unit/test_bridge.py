"""Every task of the platform, as its callers call it, and the messages it becomes."""

from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.bridge import celery_protocol
from consumers.bridge.notices import NoticePerOwner
from consumers.bridge.task_registry import REMOVED_TASKS, TABLE, TASKS, to_messages
from pocketwatch.errors import InvalidMessage
from schemas.catalogue import schema_of
from schemas.celery import CeleryTask
from schemas.message import Message
from tests.support import hostile_values

MEDIA = "clean_generated_media"
NOW = datetime(2026, 1, 31, 2, tzinfo=UTC)

# Each task with all its arguments in order, and its message: the routing key and (some of) the fields.
NOTICE = {"ad_id": 7, "action": "flagged", "status": "needs_review", "user_id": 5}
NOTICE |= {"reason": "погане фото", "attempts_count": 2, "details": {"locale": "uk"}}
INFO = {"manager_id": 3, "action": "ad_flagged", "title": "Увага", "message": "Подивіться", "ad_id": 7, "user_id": 5}
INFO |= {"data": {"categories": ["scam"]}, "priority": 6}
MAIL = {"to_email": "a@shop.example", "subject": "Увага", "html_content": "<p>Так</p>", "text_content": "Дякуємо"}
MAIL |= {"notification_id": 9, "priority": 5}
ENVELOPE = {"data": {**NOTICE, "timestamp": "2026-01-31T02:00:00"}, "priority": 8}

CALLS: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("clean_blacklisted_tokens", {"safety_margin_days": 3}, "cleanup.tokens", {"retention_days": 3}),
    ("clean_generated_media", {"days": 3}, "cleanup.media", {"retention_days": 3}),
    ("update_currency_rates_daily", {"source": "PRIVATBANK"}, "rates.update", {"source": "PRIVATBANK"}),
    (
        "update_currency_rates_manual",
        {"source": "NBU", "currencies": ["USD"]},
        "rates.update",
        {"source": "NBU", "currencies": ["USD"]},
    ),
    ("cleanup_old_currency_rates", {"days_to_keep": 90}, "rates.cleanup", {"retention_days": 90}),
    ("generate_platform_analytics", {"locale": "en"}, "analytics.platform", {"locales": ("en",)}),
    ("generate_analytics_for_all_locales", {}, "analytics.platform", {"locales": ("uk", "en", "ru")}),
    ("generate_quick_stats", {}, "analytics.quick_stats", {}),
    ("cleanup_old_analytics_cache", {}, "analytics.cleanup", {"dry_run": False}),
    ("generate_daily_report", {}, "analytics.daily_report", {"day": None}),
    ("moderate_ad_async", {"ad_id": 7}, "ad.submitted", {"ad_id": 7, "locale": None}),
    ("send_user_moderation_notification", NOTICE, "user.ad.needs_edit", {"data": NOTICE}),
    ("send_manager_moderation_notification", NOTICE, "manager.ad.flagged", {"data": NOTICE, "priority": 8}),
    (
        "notify_ad_approved",
        {"ad_id": 7, "user_id": 5, "action": "manually_approved"},
        "user.ad.approved",
        {"data": {"ad_id": 7, "user_id": 5, "action": "manually_approved", "status": "active", "reason": None}},
    ),
    (
        "notify_ad_needs_edit",
        {"ad_id": 7, "user_id": 5, "reason": "погане фото", "attempts_count": 2},
        "user.ad.needs_edit",
        {"data": {**NOTICE, "details": None, "max_attempts": 3}},
    ),
    (
        "notify_ad_status_changed",
        {"ad_id": 7, "user_id": 5, "new_status": "draft", "reason": "так"},
        "user.ad.unknown",
        {"data": {"ad_id": 7, "user_id": 5, "action": "manual_status_change", "status": "draft", "reason": "так"}},
    ),
    (
        "send_moderation_email_task",
        MAIL,
        "mail.requested",
        {
            "to": "a@shop.example",
            "letter": {
                "name": "plain",
                "subject": "Увага",
                "paragraphs": ["Дякуємо"],
                "occurred_at": NOW,
                "link": None,
            },
            "notification_id": 9,
        },
    ),
    (
        "create_moderation_notification_task",
        INFO,
        "moderation.notification_requested",
        INFO,
    ),
    (
        "process_moderation_notification_task",
        {"manager_settings_id": 4, "notification_data": ENVELOPE},
        "manager.ad.flagged",
        {"settings_id": 4, "priority": 8, "channels": None, "data": NOTICE},
    ),
]
MODULES = {
    "clean_blacklisted_tokens": ["core.tasks.token_cleanup"],
    "clean_generated_media": ["core.tasks.media_cleanup"],
    "update_currency_rates_daily": ["apps.currency.tasks"],
    "generate_quick_stats": ["apps.ads.tasks.analytics_tasks"],
    "moderate_ad_async": ["apps.ads.tasks"],
    "send_user_moderation_notification": ["apps.ads.tasks", "apps.ads.tasks.moderation_notifications"],
    "notify_bulk_status_changed": ["apps.ads.tasks", "apps.ads.tasks.moderation_notifications"],
    "send_moderation_email_task": ["apps.moderation.tasks"],
}
ACTIONS = {
    "auto_approved": ("user.ad.approved", "manager.ad.unknown"),
    "manually_approved": ("user.ad.approved", "manager.ad.unknown"),
    "auto_rejected": ("user.ad.rejected", "manager.ad.unknown"),
    "manually_rejected": ("user.ad.rejected", "manager.ad.unknown"),
    "flagged": ("user.ad.needs_edit", "manager.ad.flagged"),
    "needs_review": ("user.ad.needs_edit", "manager.ad.review_required"),
    "max_attempts_reached": ("user.ad.max_attempts", "manager.ad.max_attempts"),
    "created": ("user.ad.unknown", "manager.ad.unknown"),
    "manual_status_change": ("user.ad.unknown", "manager.ad.unknown"),
    "bulk_status_change": ("user.ad.unknown", "manager.ad.unknown"),
    "user_banned": ("user.ad.unknown", "manager.ad.unknown"),
    "content_violation": ("user.ad.unknown", "manager.ad.unknown"),
}


def convert(name: str, *args: Any, **kwargs: Any) -> Message:
    messages = to_messages(CeleryTask(task=name, args=list(args), kwargs=kwargs), now=NOW)
    assert isinstance(messages, tuple)
    (message,) = messages
    return message


@pytest.mark.parametrize(("name", "arguments"), [call[:2] for call in CALLS])
def test_hostile_argument_is_refused_or_can_be_stored(name: str, arguments: dict[str, Any]):
    for argument in arguments:
        for value in hostile_values.VALUES:
            body = hostile_values.encoded([[], arguments | {argument: value}, {}])
            try:
                task = celery_protocol.read({"task": name}, body, content_type="application/json", encoding="utf-8")
                messages = to_messages(task, now=NOW)
            except (InvalidMessage, ValueError):
                continue
            found = [messages.build(1, [2])] if isinstance(messages, NoticePerOwner) else messages
            for message in found:
                hostile_values.assert_storable(message.model_dump())


def refusal(name: str, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InvalidMessage) as caught:
        to_messages(CeleryTask(task=name, args=list(args), kwargs=kwargs), now=NOW)
    return str(caught.value)


def has(message: Message, wanted: dict[str, Any]) -> bool:
    """Return whether the message has these fields; of a nested object, at least these."""
    fields = message.model_dump()
    return all(
        fields[name].items() >= value.items() if isinstance(value, dict) else fields[name] == value
        for name, value in wanted.items()
    )


@pytest.mark.parametrize(("name", "arguments", "key", "fields"), CALLS, ids=[name for name, *_ in CALLS])
def test_task_becomes_its_message_with_positional_and_keyword_arguments(
    name: str, arguments: dict[str, Any], key: str, fields: dict[str, Any]
):
    positional, by_keyword = convert(name, *arguments.values()), convert(name, **arguments)

    assert positional == by_keyword
    assert positional.routing_key == key
    assert has(by_keyword, fields)
    assert schema_of(key).model_validate_json(by_keyword.model_dump_json()) == by_keyword  # as its consumer reads it


def test_every_task_and_argument_is_covered():
    called = {name: list(arguments) for name, arguments, *_ in CALLS}
    called |= {"notify_ad_max_attempts_reached": ["ad_id", "user_id", "attempts_count"]}
    called |= {"notify_bulk_status_changed": ["ad_ids", "new_status", "reason"]}

    assert called == {task.name: list(task.signature.parameters) for task in TABLE}


@pytest.mark.parametrize(("name", "modules"), MODULES.items())
def test_task_is_known_by_bare_and_qualified_name(name: str, modules: list[str]):
    assert all(TASKS[f"{module}.{name}"] is TASKS[name] for module in modules)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("clean_blacklisted_tokens", {"retention_days": 7}),
        ("clean_generated_media", {"retention_days": 7}),
        ("update_currency_rates_daily", {"source": "NBU"}),
        ("update_currency_rates_manual", {"source": "NBU", "currencies": None}),
        ("cleanup_old_currency_rates", {"retention_days": 30}),
        ("generate_platform_analytics", {"locales": ("uk",)}),
    ],
)
def test_defaults_are_those_of_the_platform(name: str, event: dict[str, Any]):
    assert has(convert(name), event)


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("clean_blacklisted_tokens", "days"),
        ("clean_blacklisted_tokens", "retention_days"),
        ("clean_generated_media", "retention_days"),
        ("cleanup_old_currency_rates", "days"),
        ("cleanup_old_currency_rates", "retention_days"),
    ],
)
def test_argument_aliases_are_accepted(name: str, argument: str):
    assert has(convert(name, **{argument: 11}), {"retention_days": 11})


@pytest.mark.parametrize("source", ["PRIVATBANK", "privatbank", "PrivatBank"])
def test_source_is_case_insensitive(source: str):
    assert has(convert("apps.currency.tasks.update_currency_rates_daily", source), {"source": "PRIVATBANK"})


def test_official_rates_replace_those_of_exchangerate_api():
    for task in ("update_currency_rates_daily", "update_currency_rates_manual"):
        assert has(convert(task, "exchangerate_api"), {"source": "NBU", "instead_of": "EXCHANGERATE_API"})


def test_empty_currency_list_means_all():
    assert has(convert("update_currency_rates_manual", currencies=[]), {"currencies": None})


@pytest.mark.parametrize(("action", "keys"), ACTIONS.items())
def test_notice_has_the_routing_key_of_its_action(action: str, keys: tuple[str, str]):
    to_user = convert("send_user_moderation_notification", 7, action, "active", 5)
    to_managers = convert("send_manager_moderation_notification", 7, action, "active", 5)

    assert (to_user.routing_key, to_managers.routing_key) == keys


@pytest.mark.parametrize(
    ("alias", "action"),
    [
        ("ad_needs_review", "needs_review"),
        ("ad_max_attempts", "max_attempts_reached"),
        ("ad_flagged", "flagged"),
        ("user_banned", "user_banned"),
        ("content_violation", "content_violation"),
    ],
)
def test_info_table_actions_are_translated(alias: str, action: str):
    processed = convert("process_moderation_notification_task", 4, {"action": alias})

    assert processed.model_dump()["data"]["action"] == action


def test_requested_notification_keeps_any_action_and_has_empty_data_by_default():
    written = convert("create_moderation_notification_task", 3, "user_complained", " Title\n", "", data=None)

    assert has(written, {"action": "user_complained", "title": " Title\n", "message": "", "data": {}, "priority": 5})


def test_notice_is_accepted_whole_or_as_its_data():
    whole = convert("process_moderation_notification_task", 4, {"data": NOTICE})
    data = convert("process_moderation_notification_task", 4, NOTICE)

    assert whole == data
    assert has(whole, {"settings_id": 4, "priority": 5, "data": NOTICE})


def test_empty_reason_becomes_null():
    message = convert("notify_ad_status_changed", 7, 5, "sold", "")

    assert has(message, {"data": {"reason": None, "status": "sold"}})


def test_max_attempts_notifies_owner_and_managers():
    messages = to_messages(CeleryTask(task="notify_ad_max_attempts_reached", args=[7, 5, 3], kwargs={}), now=NOW)

    assert isinstance(messages, tuple)
    assert [message.routing_key for message in messages] == ["user.ad.max_attempts", "manager.ad.max_attempts"]
    wanted = {"ad_id": 7, "user_id": 5, "attempts_count": 3, "status": "rejected", "action": "max_attempts_reached"}
    assert all(has(message, {"data": wanted}) for message in messages)


def test_bulk_change_names_each_ad_once():
    wanted = to_messages(
        CeleryTask(task="notify_bulk_status_changed", args=[[9, 7, 9], "rejected"], kwargs={}), now=NOW
    )

    assert isinstance(wanted, NoticePerOwner)
    assert wanted.ad_ids == (9, 7)
    one, several = wanted.build(5, [9]), wanted.build(5, [9, 7])
    assert has(one, {"data": {"ad_id": 9, "user_id": 5, "action": "manual_status_change", "details": None}})
    assert has(several, {"data": {"action": "bulk_status_change", "details": {"affected_ads": [9, 7]}}})


def test_html_is_used_without_a_text():
    message = convert(
        "send_moderation_email_task", "a@shop.example", "Two\r\nlines", "<p>One</p><p>Two &amp; three</p>"
    )

    assert has(message, {"letter": {"subject": "Two lines", "paragraphs": ["One", "Two & three"]}})


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "expected", "signature"),
    [
        (MEDIA, [7, 8], {}, "too many positional arguments", "(days=7)"),
        (MEDIA, [], {"dayz": 7}, "got an unexpected keyword argument 'dayz'", "(days=7)"),
        (MEDIA, [7], {"retention_days": 7}, "multiple values for argument 'days'", "(days=7)"),
        (
            MEDIA,
            [],
            {"days": 7, "retention_days": 8},
            "multiple values for argument 'days', which is also called 'retention_days'",
            "(days=7)",
        ),
        ("moderate_ad_async", [], {}, "missing a required argument: 'ad_id'", "(ad_id)"),
        ("generate_quick_stats", ["uk"], {}, "too many positional arguments", "()"),
        (
            "update_currency_rates_daily",
            [],
            {"self": 1},
            "got an unexpected keyword argument 'self'",
            "(source='NBU')",
        ),
    ],
)
def test_unknown_arguments_are_refused_with_the_signature(
    name: str, args: list[Any], kwargs: dict[str, Any], expected: str, signature: str
):
    assert refusal(name, *args, **kwargs) == (f'task "{name}": {expected}; its signature is {name}{signature}')


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        (MEDIA, ["7"], 'days is "7": must be a valid integer'),
        (MEDIA, [True], "days is True: must be a valid integer"),
        (MEDIA, [-1], "days is -1: must be greater than or equal to 0"),
        (MEDIA, [None], "days is None: must be a valid integer"),
        (
            "update_currency_rates_daily",
            ["ECB"],
            "source is \"ECB\": must be 'NBU', 'PRIVATBANK' or 'EXCHANGERATE_API'",
        ),
        ("update_currency_rates_manual", ["FIXER_IO"], "source is \"FIXER_IO\": must be 'NBU', 'PRIVATBANK' or "),
        ("update_currency_rates_daily", [None], "source is None: must be 'NBU', 'PRIVATBANK' or 'EXCHANGERATE_API'"),
        ("generate_platform_analytics", ["de"], "locale is \"de\": must be 'uk', 'en' or 'ru'"),
        ("moderate_ad_async", ["7"], 'ad_id is "7": must be a valid integer'),
        ("notify_bulk_status_changed", [[1, 0], "sold"], "ad_ids.1 is 0: must be greater than or equal to 1"),
        ("notify_ad_status_changed", [7, 5, "gone"], "new_status is \"gone\": must be 'draft', "),
        ("notify_ad_approved", [7, 5, "liked"], "action is \"liked\": must be 'created', "),
        ("process_moderation_notification_task", [4, {"ad_id": 7}], "action is None: must be 'created', "),
        ("process_moderation_notification_task", [4, {"action": ["flagged"]}], "action is ['flagged']: must be "),
        (
            "send_moderation_email_task",
            ["no-address", "Subject", "<p>text</p>"],
            'to_email is "no-address": must be an email ',
        ),
        ("send_moderation_email_task", ["a@shop.example", "Subject", "<p></p>"], "paragraphs is []: "),
        (
            "create_moderation_notification_task",
            [3, "a" * 51, "t", "m"],
            f'action is "{"a" * 51}": String should have at most 50 ',
        ),
        (
            "create_moderation_notification_task",
            [3, "a", "t" * 201, "m"],
            f'title is "{"t" * 59}…: String should have ',
        ),
        ("create_moderation_notification_task", [3, "a", 7, "m"], "title is 7: must be a valid string"),
        ("create_moderation_notification_task", [3, "a", "t", "m", 7, 5, ["x"]], "data is ['x']: must be "),
    ],
)
def test_invalid_argument_is_named_with_accepted_values(name: str, args: list[Any], expected: str):
    assert refusal(name, *args).startswith(f'task "{name}": {expected}')


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("clean_everything", "clean_generated_media"),
        ("apps.currency.tasks.update_currency_rates", "update_currency_rates_daily"),
        ("old.module.send_moderation_email", "send_moderation_email_task"),
    ],
)
def test_unknown_task_is_refused_with_the_nearest_name(name: str, nearest: str):
    assert refusal(name) == f'task "{name}": unknown; did you mean "{nearest}"?'


@pytest.mark.parametrize("name", REMOVED_TASKS)
def test_removed_task_is_refused_without_a_suggestion(name: str):
    assert refusal(name) == f'task "{name}": was scheduled but never written; remove the call'


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("moderate_ad_async", [2**63], "ad_id is 9223372036854775808: must be less than or equal to"),
        ("notify_ad_status_changed", [1, 1, "draft", "x" * 10_001], "reason is"),
        ("notify_bulk_status_changed", [["x"] * 10_000, "draft"], "ad_ids.0 is"),
        ("notify_bulk_status_changed", [[1], "draft", "x" * 10_001], "reason is"),
        ("send_moderation_email_task", ["a@shop.example", "s", "<p>" * 100_000], "html_content is"),
        ("moderate_ad_async", [1] * 101, "args"),
    ],
)
def test_argument_beyond_a_bound_is_refused(name: str, arguments: list[Any], expected: str):
    with pytest.raises((InvalidMessage, ValueError), match=expected) as error:
        to_messages(
            celery_protocol.read(
                {"task": name},
                hostile_values.encoded([arguments, {}, {}]),
                content_type="application/json",
                encoding="utf-8",
            ),
            now=NOW,
        )
    assert len(str(error.value)) < 1_500
