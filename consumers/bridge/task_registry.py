"""The tasks that the bridge knows, and the check of a call's arguments."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, ValidationError, validate_call

from consumers.bridge import tasks
from consumers.bridge.notices import NoticePerOwner
from consumers.bridge.tasks import Messages
from pocketwatch.errors import InvalidMessage
from schemas.celery import CeleryTask
from schemas.message import Message
from schemas.validation_errors import describe

NOW = "now"


@dataclass(frozen=True)
class Task:
    """A task, known by its bare name and as a member of each of these modules.

    Args:
        function: has the task's name and arguments.
        aliases: other names that callers use for its arguments.
    """

    function: Callable[..., Messages]
    modules: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.function.__name__

    @cached_property
    def signature(self) -> inspect.Signature:
        """Names and defaults of the caller's arguments, as errors show them: without types and without `now`."""
        full = inspect.signature(self.function)
        parameters = [each.replace(annotation=each.empty) for name, each in full.parameters.items() if name != NOW]
        return full.replace(parameters=parameters, return_annotation=full.empty)

    @cached_property
    def takes_now(self) -> bool:
        return NOW in inspect.signature(self.function).parameters

    @cached_property
    def validated(self) -> Callable[..., Messages]:
        return validate_call(config=ConfigDict(strict=True))(self.function)


TOKENS = ("core.tasks", "core.tasks.token_cleanup")
MEDIA = ("core.tasks", "core.tasks.media_cleanup")
RATES = ("apps.currency.tasks",)
ANALYTICS = ("apps.ads.tasks.analytics_tasks",)
ADS = ("apps.ads.tasks", "apps.ads.tasks.moderation_notifications")
MODERATION = ("apps.moderation.tasks",)

TABLE = (
    Task(
        tasks.clean_blacklisted_tokens,
        TOKENS,
        aliases={"days": "safety_margin_days", "retention_days": "safety_margin_days"},
    ),
    Task(tasks.clean_generated_media, MEDIA, aliases={"retention_days": "days"}),
    Task(tasks.update_currency_rates_daily, RATES),
    Task(tasks.update_currency_rates_manual, RATES),
    Task(tasks.cleanup_old_currency_rates, RATES, aliases={"days": "days_to_keep", "retention_days": "days_to_keep"}),
    Task(tasks.generate_platform_analytics, ANALYTICS),
    Task(tasks.generate_analytics_for_all_locales, ANALYTICS),
    Task(tasks.generate_quick_stats, ANALYTICS),
    Task(tasks.cleanup_old_analytics_cache, ANALYTICS),
    Task(tasks.generate_daily_report, ANALYTICS),
    Task(tasks.moderate_ad_async, ADS),
    Task(tasks.send_user_moderation_notification, ADS),
    Task(tasks.send_manager_moderation_notification, ADS),
    Task(tasks.notify_ad_approved, ADS),
    Task(tasks.notify_ad_needs_edit, ADS),
    Task(tasks.notify_ad_max_attempts_reached, ADS),
    Task(tasks.notify_ad_status_changed, ADS),
    Task(tasks.notify_bulk_status_changed, ADS),
    Task(tasks.send_moderation_email_task, MODERATION),
    Task(tasks.create_moderation_notification_task, MODERATION),
    Task(tasks.process_moderation_notification_task, MODERATION),
)
TASKS: Mapping[str, Task] = MappingProxyType(
    {name: task for task in TABLE for name in (task.name, *(f"{module}.{task.name}" for module in task.modules))}
)
# Entries of the platform's old schedule for which no task was ever written.
REMOVED_TASKS = ("clean_temp_files", "cleanup_chat_temp_files")


def is_known(name: str) -> bool:
    """Whether a task is the bridge's: one that it replaces, or one of which it says that it never existed."""
    return name in TASKS or _bare(name) in REMOVED_TASKS


def to_messages(task: CeleryTask, *, now: datetime) -> tuple[Message, ...] | NoticePerOwner:
    """Return the messages that replace this task.

    Args:
        now: the time from which the messages count; the task's `eta` for a delayed task.

    Raises:
        InvalidMessage: naming the task or argument that is wrong, and what is accepted.
    """
    known = _find(task.task)
    label = f'task "{task.task}"'
    try:
        arguments = known.signature.bind(*task.args, **_without_aliases(known, task.kwargs)).arguments
    except TypeError as error:
        raise InvalidMessage(f"{label}: {error}; its signature is {known.name}{known.signature}") from error
    try:
        messages = known.validated(**arguments, **({NOW: now} if known.takes_now else {}))
    except ValidationError as error:
        raise InvalidMessage(f"{label}: {describe(error, CeleryTask)}") from error
    return (messages,) if isinstance(messages, Message) else messages


def _find(name: str) -> Task:
    if (task := TASKS.get(name)) is not None:
        return task
    bare = _bare(name)
    if bare in REMOVED_TASKS:
        raise InvalidMessage(f'task "{name}": was scheduled but never written; remove the call')
    near = difflib.get_close_matches(bare, [task.name for task in TABLE], n=1, cutoff=0)[0]
    raise InvalidMessage(f'task "{name}": unknown; did you mean "{near}"?')


def _bare(name: str) -> str:
    return name.rpartition(".")[2]


def _without_aliases(task: Task, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    renamed: dict[str, Any] = {}
    for alias, value in kwargs.items():
        name = task.aliases.get(alias, alias)
        if name in renamed:
            raise TypeError(f"multiple values for argument {name!r}, which is also called {alias!r}")
        renamed[name] = value
    return renamed
