"""Calling: which task is meant, and whether it can be called with these arguments."""

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
from consumers.bridge.tasks import Made
from pocketwatch.errors import InvalidMessage
from schemas.celery import CeleryTask
from schemas.validation_errors import describe

NOW = "now"


@dataclass(frozen=True)
class Task:
    """A task that can be called, by its bare name or as a part of one of these modules.

    Args:
        make: named like the task, with its arguments.
        also: other names for its arguments.
    """

    make: Callable[..., Made]
    modules: tuple[str, ...]
    also: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The bare name."""
        return self.make.__name__

    @cached_property
    def signature(self) -> inspect.Signature:
        """Names and defaults of its caller's arguments; without the types, which tell a reader of errors nothing."""
        given = inspect.signature(self.make)
        named = [each.replace(annotation=each.empty) for name, each in given.parameters.items() if name != NOW]
        return given.replace(parameters=named, return_annotation=given.empty)

    @cached_property
    def takes_now(self) -> bool:
        """Its event says since when it counts."""
        return NOW in inspect.signature(self.make).parameters

    @cached_property
    def checked(self) -> Callable[..., Made]:
        """The function, strict about the types of its arguments."""
        return validate_call(config=ConfigDict(strict=True))(self.make)


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
        also={"days": "safety_margin_days", "retention_days": "safety_margin_days"},
    ),
    Task(tasks.clean_generated_media, MEDIA, also={"retention_days": "days"}),
    Task(tasks.update_currency_rates_daily, RATES),
    Task(tasks.update_currency_rates_manual, RATES),
    Task(tasks.cleanup_old_currency_rates, RATES, also={"days": "days_to_keep", "retention_days": "days_to_keep"}),
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
# Entries of the old schedule that no code ever stood behind.
NEVER_WERE = ("clean_temp_files", "cleanup_chat_temp_files")


def call(called: CeleryTask, *, now: datetime) -> Made:
    """What is to be sent in place of this task, `now` or at a later moment that is meant by it.

    Raises:
        Malformed: naming the task and the argument that are wrong, and what would be right.
    """
    task = _find(called.task)
    named = f'task "{called.task}"'
    try:
        given = task.signature.bind(*called.args, **_renamed(task, called.kwargs)).arguments
    except TypeError as error:
        raise InvalidMessage(
            f"{named} cannot be called like this: {error}; it is {task.name}{task.signature}"
        ) from error
    try:
        return task.checked(**given, **({NOW: now} if task.takes_now else {}))
    except ValidationError as error:
        raise InvalidMessage(f"{named}: {describe(error, CeleryTask)}") from error


def _find(name: str) -> Task:
    if (task := TASKS.get(name)) is not None:
        return task
    bare = name.rpartition(".")[2]
    if bare in NEVER_WERE:
        raise InvalidMessage(f'task "{name}" never existed, though the old schedule named it; call it no more')
    near = difflib.get_close_matches(bare, [task.name for task in TABLE], n=1, cutoff=0)[0]
    raise InvalidMessage(f'task "{name}" is not known; the nearest known one is "{near}"')


def _renamed(task: Task, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments under the names that the task has for them."""
    named: dict[str, Any] = {}
    for name, value in kwargs.items():
        own = task.also.get(name, name)
        if own in named:
            raise TypeError(f"multiple values for argument {own!r}, which is also called {name!r}")
        named[own] = value
    return named
