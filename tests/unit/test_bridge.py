"""Every task of the platform, as its callers call it, and what it becomes."""

from datetime import UTC, datetime
from typing import Any

import pytest

from consumers.bridge.notices import ForOwners
from consumers.bridge.task_registry import (
    NEVER_WERE,
    TABLE,
    TASKS,
    call,
)
from pocketwatch.errors import InvalidMessage
from schemas.catalogue import schema_of
from schemas.celery import CeleryTask
from schemas.message import Message

MEDIA = "clean_generated_media"
NOW = datetime(2026, 1, 31, 2, tzinfo=UTC)

# Each task with all its arguments in their order, and the event that it becomes: its key and (some of) its fields.
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
        "manager.ad.flagged",
        {
            "manager_id": 3,
            "title": "Увага",
            "message": "Подивіться",
            "channels": ["info_table"],
            "priority": 6,
            "data": {"ad_id": 7, "user_id": 5, "action": "flagged", "details": {"categories": ["scam"]}},
        },
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


def made(name: str, *args: Any, **kwargs: Any) -> Message:
    message = call(CeleryTask(task=name, args=list(args), kwargs=kwargs), now=NOW)
    assert isinstance(message, Message)
    return message


def refusal(name: str, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InvalidMessage) as caught:
        call(CeleryTask(task=name, args=list(args), kwargs=kwargs), now=NOW)
    return str(caught.value)


def says(message: Message, wanted: dict[str, Any]) -> bool:
    """Whether the message has these fields; of an object in it, at least these."""
    fields = message.model_dump()
    return all(
        fields[name].items() >= value.items() if isinstance(value, dict) else fields[name] == value
        for name, value in wanted.items()
    )


@pytest.mark.parametrize(("name", "arguments", "key", "fields"), CALLS, ids=[name for name, *_ in CALLS])
def test_a_task_becomes_its_event_by_place_and_by_name(
    name: str, arguments: dict[str, Any], key: str, fields: dict[str, Any]
):
    by_place, by_name = made(name, *arguments.values()), made(name, **arguments)

    assert by_place == by_name
    assert by_place.routing_key == key
    assert says(by_name, fields)
    assert schema_of(key).model_validate_json(by_name.model_dump_json()) == by_name  # as its consumer reads it


def test_every_task_is_called_here_with_every_argument_in_its_order():
    called = {name: list(arguments) for name, arguments, *_ in CALLS}
    called |= {"notify_ad_max_attempts_reached": ["ad_id", "user_id", "attempts_count"]}
    called |= {"notify_bulk_status_changed": ["ad_ids", "new_status", "reason"]}

    assert called == {task.name: list(task.signature.parameters) for task in TABLE}


@pytest.mark.parametrize(("name", "modules"), MODULES.items())
def test_a_task_is_known_by_its_bare_name_and_under_its_modules(name: str, modules: list[str]):
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
def test_defaults_are_those_that_the_callers_know(name: str, event: dict[str, Any]):
    assert says(made(name), event)


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
def test_days_have_other_names_too(name: str, argument: str):
    assert says(made(name, **{argument: 11}), {"retention_days": 11})


@pytest.mark.parametrize("source", ["PRIVATBANK", "privatbank", "PrivatBank"])
def test_a_source_comes_in_any_case(source: str):
    assert says(made("apps.currency.tasks.update_currency_rates_daily", source), {"source": "PRIVATBANK"})


def test_an_empty_list_of_currencies_means_all():
    assert says(made("update_currency_rates_manual", currencies=[]), {"currencies": None})


@pytest.mark.parametrize(("action", "keys"), ACTIONS.items())
def test_a_notice_has_the_routing_key_of_its_action(action: str, keys: tuple[str, str]):
    to_user = made("send_user_moderation_notification", 7, action, "active", 5)
    to_managers = made("send_manager_moderation_notification", 7, action, "active", 5)

    assert (to_user.routing_key, to_managers.routing_key) == keys


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("ad_needs_review", "needs_review"),
        ("ad_max_attempts", "max_attempts_reached"),
        ("ad_flagged", "flagged"),
        ("user_banned", "user_banned"),
        ("content_violation", "content_violation"),
    ],
)
def test_actions_of_the_info_table_are_understood(theirs: str, ours: str):
    written = made("create_moderation_notification_task", 3, theirs, "title", "message")
    processed = made("process_moderation_notification_task", 4, {"action": theirs})

    assert written.model_dump()["data"]["action"] == processed.model_dump()["data"]["action"] == ours


def test_the_data_of_a_notice_alone_is_enough_to_process_it():
    whole = made("process_moderation_notification_task", 4, {"data": NOTICE})
    data = made("process_moderation_notification_task", 4, NOTICE)

    assert whole == data
    assert says(whole, {"settings_id": 4, "priority": 5, "data": NOTICE})


def test_an_empty_reason_is_none():
    message = made("notify_ad_status_changed", 7, 5, "sold", "")

    assert says(message, {"data": {"reason": None, "status": "sold"}})


def test_the_owner_and_the_managers_are_told_of_the_last_attempt():
    told = call(CeleryTask(task="notify_ad_max_attempts_reached", args=[7, 5, 3]), now=NOW)

    assert isinstance(told, tuple)
    assert [message.routing_key for message in told] == ["user.ad.max_attempts", "manager.ad.max_attempts"]
    wanted = {"ad_id": 7, "user_id": 5, "attempts_count": 3, "status": "rejected", "action": "max_attempts_reached"}
    assert all(says(message, {"data": wanted}) for message in told)


def test_a_change_of_many_ads_names_each_ad_once():
    wanted = call(CeleryTask(task="notify_bulk_status_changed", args=[[9, 7, 9], "rejected"]), now=NOW)

    assert isinstance(wanted, ForOwners)
    assert wanted.ad_ids == (9, 7)
    one, several = wanted.notice(5, [9]), wanted.notice(5, [9, 7])
    assert says(one, {"data": {"ad_id": 9, "user_id": 5, "action": "manual_status_change", "details": None}})
    assert says(several, {"data": {"action": "bulk_status_change", "details": {"affected_ads": [9, 7]}}})


def test_the_html_is_read_where_there_is_no_text():
    message = made("send_moderation_email_task", "a@shop.example", "Two\r\nlines", "<p>One</p><p>Two &amp; three</p>")

    assert says(message, {"letter": {"subject": "Two lines", "paragraphs": ["One", "Two & three"]}})


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "words", "signature"),
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
def test_arguments_that_a_task_does_not_have_are_refused_with_those_that_it_has(
    name: str, args: list[Any], kwargs: dict[str, Any], words: str, signature: str
):
    assert refusal(name, *args, **kwargs) == (
        f'task "{name}" cannot be called like this: {words}; it is {name}{signature}'
    )


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        (MEDIA, ["7"], 'days is "7": must be a valid integer'),
        (MEDIA, [True], "days is True: must be a valid integer"),
        (MEDIA, [-1], "days is -1: must be greater than or equal to 0"),
        (MEDIA, [None], "days is None: must be a valid integer"),
        ("update_currency_rates_daily", ["ECB"], "source is \"ECB\": must be 'NBU' or 'PRIVATBANK'"),
        ("update_currency_rates_daily", [None], "source is None: must be 'NBU' or 'PRIVATBANK'"),
        ("generate_platform_analytics", ["de"], "locale is \"de\": must be 'uk', 'en' or 'ru'"),
        ("moderate_ad_async", ["7"], 'ad_id is "7": must be a valid integer'),
        ("notify_bulk_status_changed", [[1, 0], "sold"], "ad_ids.1 is 0: must be greater than or equal to 1"),
        ("notify_ad_status_changed", [7, 5, "gone"], "new_status is \"gone\": must be 'draft', "),
        ("notify_ad_approved", [7, 5, "liked"], "action is \"liked\": must be 'created', "),
        ("process_moderation_notification_task", [4, {"ad_id": 7}], "action is None: must be 'created', "),
        ("process_moderation_notification_task", [4, {"action": ["flagged"]}], "action is ['flagged']: must be "),
        (
            "send_moderation_email_task",
            ["nobody", "Subject", "<p>text</p>"],
            'to_email is "nobody": must be an e-mail ',
        ),
        ("send_moderation_email_task", ["a@shop.example", "Subject", "<p></p>"], "paragraphs is []: "),
    ],
)
def test_an_argument_that_is_wrong_is_named_with_what_would_be_right(name: str, args: list[Any], words: str):
    assert refusal(name, *args).startswith(f'task "{name}": {words}')


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("clean_everything", "clean_generated_media"),
        ("apps.currency.tasks.update_currency_rates", "update_currency_rates_daily"),
        ("old.module.send_moderation_email", "send_moderation_email_task"),
    ],
)
def test_an_unknown_task_is_refused_with_the_nearest_known_one(name: str, nearest: str):
    assert refusal(name) == f'task "{name}" is not known; the nearest known one is "{nearest}"'


@pytest.mark.parametrize("name", NEVER_WERE)
def test_a_task_that_never_existed_is_refused_without_a_guess(name: str):
    assert refusal(name) == f'task "{name}" never existed, though the old schedule named it; call it no more'
