"""Each of the platform's tasks, sent by its Celery client, handled by the suite, and read back by the platform.

The suite runs once, as a process of its own; the platform is the tests' Django site.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from demo.banks import banks
from pocketwatch.stack.native.caught_emails import CaughtEmail, caught_emails
from tests.fixtures.servers import ROOT, Servers, clean_environment
from tests.fixtures.site import Site
from tests.fixtures.suite import Program
from tests.support.vhosts import Vhosts

NOTICES = "apps.ads.tasks.moderation_notifications"
ANALYTICS = "apps.ads.tasks.analytics_tasks"
REASON = "контакти в тексті"

# Bare names; each task about an ad has an ad of its own, which is called like the task.
OWNER_NOTICES = (
    "send_user_moderation_notification",
    "notify_ad_approved",
    "notify_ad_needs_edit",
    "notify_ad_max_attempts_reached",
    "notify_ad_status_changed",
    "notify_bulk_status_changed",
)
MANAGER_NOTICES = (
    "send_manager_moderation_notification",
    "notify_ad_max_attempts_reached",
    "process_moderation_notification_task",
)
ADS = (
    "moderate_ad_async",
    *OWNER_NOTICES,
    MANAGER_NOTICES[0],
    MANAGER_NOTICES[2],
    "create_moderation_notification_task",
)

# Tasks whose messages are still on their way.
PENDING = """
SELECT sent FROM unnest(%(ids)s::text[]) AS sent WHERE NOT EXISTS (
  SELECT FROM update_logs WHERE message_id = sent AND job = 'celery' AND status <> 'running')
UNION ALL SELECT message_id FROM outbox WHERE exchange <> 'facts' AND NOT EXISTS (
  SELECT FROM update_logs WHERE update_logs.message_id = outbox.message_id AND job <> 'celery' AND status <> 'running')
"""
DEADLINE = 60.0  # seconds


def tasks(made: dict[str, Any], addressee: str) -> list[tuple[str, list[Any], dict[str, Any]]]:
    """The calls of the platform, as its own code makes them."""
    ads, owner = made["ads"], made["owner"]

    def about(name: str) -> list[Any]:
        return [ads[name], owner]

    user, manager, process = "send_user_moderation_notification", *MANAGER_NOTICES[::2]
    create = "create_moderation_notification_task"
    flagged = {"ad_id": ads[process], "action": "flagged", "status": "needs_review", "user_id": owner, "reason": REASON}
    return [
        ("clean_blacklisted_tokens", [], {"safety_margin_days": 7}),
        ("clean_generated_media", [7], {}),
        ("apps.currency.tasks.update_currency_rates_daily", [], {}),
        ("apps.currency.tasks.update_currency_rates_manual", [], {"source": "PRIVATBANK", "currencies": ["EUR"]}),
        ("apps.currency.tasks.cleanup_old_currency_rates", [], {"days_to_keep": 30}),
        (f"{ANALYTICS}.generate_platform_analytics", ["uk"], {}),
        (f"{ANALYTICS}.generate_analytics_for_all_locales", [], {}),
        (f"{ANALYTICS}.generate_quick_stats", [], {}),
        (f"{ANALYTICS}.generate_daily_report", [], {}),
        (f"{ANALYTICS}.cleanup_old_analytics_cache", [], {}),
        ("apps.ads.tasks.moderate_ad_async", [ads["moderate_ad_async"]], {}),
        (f"{NOTICES}.{user}", [ads[user], "auto_rejected", "rejected", owner, REASON, 2], {}),
        (f"{NOTICES}.{manager}", [ads[manager], "flagged", "needs_review", owner, REASON], {}),
        (f"{NOTICES}.notify_ad_approved", about("notify_ad_approved"), {}),
        (f"{NOTICES}.notify_ad_needs_edit", [*about("notify_ad_needs_edit"), REASON, 1], {}),
        (f"{NOTICES}.notify_ad_max_attempts_reached", [*about("notify_ad_max_attempts_reached"), 3], {}),
        (f"{NOTICES}.notify_ad_status_changed", [*about("notify_ad_status_changed"), "active", REASON], {}),
        (f"{NOTICES}.notify_bulk_status_changed", [[ads["notify_bulk_status_changed"]], "archived", REASON], {}),
        ("apps.moderation.tasks.send_moderation_email_task", [addressee, "Звіт", "<p>Усе гаразд</p>"], {}),
        (
            f"apps.moderation.tasks.{create}",
            [made["clerk"], "user_complained", "Гляньте", "Що там"],
            {"ad_id": ads[create], "data": {"complaint": 7}},
        ),
        (f"apps.moderation.tasks.{process}", [made["settings"], {"data": flagged}], {}),
    ]


@dataclass(frozen=True)
class Outcome:
    """What the platform and the recipients of emails see in the end."""

    made: dict[str, Any]
    read: dict[str, Any]
    results: dict[str, str]
    emails: list[CaughtEmail]
    owner: str
    manager: str
    addressee: str

    def email_to(self, address: str, about: str) -> CaughtEmail:
        (found,) = [each for each in self.emails if each.to == address and about in f"{each.subject}\n{each.text}"]
        return found

    def notification(self, task: str) -> dict[str, Any]:
        ad_id = self.made["ads"][task]
        (found,) = [each for each in self.read["notifications"] if each["ad_id"] == ad_id]
        return dict(found)


@pytest.fixture(scope="module")
def outcome(
    servers: Servers, template: str, vhosts: Vhosts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcome]:
    """All tasks at once, and one look at everything afterwards."""
    folder, name = tmp_path_factory.mktemp("tasks"), f"test_{uuid4().hex[:12]}"
    owner, manager, addressee = (
        f"{who}@{name.replace('_', '-')}.example.com" for who in ("owner", "manager", "reader")
    )
    with ExitStack() as stack:
        vhost = vhosts.take(declared=False)
        stack.callback(vhosts.give_back, vhost)
        servers.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        stack.callback(servers.sql, f"DROP DATABASE {name} WITH (FORCE)")
        (folder / "media").mkdir()
        redis = servers.urls["REDIS_URL"].rpartition("/")[0] + "/7"
        environment = clean_environment(
            RABBITMQ_URL=servers.amqp(vhost),
            DATABASE_URL=servers.postgresql(name),
            REDIS_URL=redis,
            SMTP_URL=servers.urls["SMTP_URL"],
            POCKETWATCH_MEDIA_ROOT=str(folder / "media"),
            POCKETWATCH_DJANGO_CACHE=f"{redis}?prefix=autoria&version=1",
            POCKETWATCH_CELERY_RESULTS=redis,
            POCKETWATCH_LOG_FORMAT="json",
            MEDIA_ROOT=str(folder / "media"),
            PYTHONPATH=str(ROOT),
            **stack.enter_context(banks()),
        )
        program, site = Program(environment, folder), Site(environment)
        running = program.start("run")
        stack.callback(running.kill)
        made = site.call("tasks.prepare", owner=owner, manager=manager, ads=list(ADS))
        running.until("consumers.started")
        calls = tasks(made, addressee)
        ids = site.call("tasks.send", tasks=calls)
        until_handled(environment["DATABASE_URL"], ids)
        states = site.call("tasks.states", ids=ids)
        running.stop()
        read = site.call("tasks.read", made=made)
        results = {name.rpartition(".")[2]: state for (name, _, _), state in zip(calls, states, strict=True)}
        yield Outcome(made, read, results, caught_emails(servers.stack.folder), owner, manager, addressee)


def until_handled(database_url: str, ids: list[str]) -> None:
    end = time.monotonic() + DEADLINE
    with psycopg.connect(database_url, autocommit=True) as connection:
        while pending := connection.execute(PENDING, {"ids": ids}).fetchall():
            assert time.monotonic() < end, pending
            time.sleep(0.1)
        refused = connection.execute(
            "SELECT job, error FROM update_logs WHERE status IN ('failed', 'dead', 'rejected')"
        ).fetchall()
        assert refused == []


def test_clean_blacklisted_tokens(outcome: Outcome):
    """Expired tokens are gone; simplejwt still refuses a revoked one, and accepts a valid one."""
    assert outcome.read["token_rows"] == 2
    assert outcome.read["tokens"] == {"expired": False, "revoked": False, "valid": True}


def test_clean_generated_media(outcome: Outcome):
    """The storage has lost the old file that no row names, and kept the avatar."""
    generated, avatar = outcome.made["files"]
    assert outcome.read["files"] == {generated: False, avatar: True}


@pytest.mark.parametrize(
    ("task", "target", "source"),
    [("update_currency_rates_daily", "USD", "NBU"), ("update_currency_rates_manual", "EUR", "PRIVATBANK")],
)
def test_update_currency_rates(outcome: Outcome, task: str, target: str, source: str):
    """The API shows the newest active rate, and does not ask the bank itself while it is fresh."""
    rates = [rate for rate in outcome.read["rates"] if (rate["target"], rate["source"]) == (target, source)]
    assert rates[-1]["fresh"], task


def test_cleanup_old_currency_rates(outcome: Outcome):
    assert outcome.made["rate"] not in [rate["id"] for rate in outcome.read["rates"]]


@pytest.mark.parametrize(
    ("task", "keys"),
    [
        ("generate_platform_analytics", ["platform:uk"]),
        ("generate_analytics_for_all_locales", ["platform:uk", "platform:en", "platform:ru"]),
    ],
)
def test_platform_analytics(outcome: Outcome, task: str, keys: list[str]):
    """The figures are in Redis; nothing of the site reads what the task cached."""
    assert [outcome.read["analytics"][key]["payload"] for key in keys], task


def test_generate_quick_stats(outcome: Outcome):
    """The API answers from its cache."""
    answer = outcome.read["quick_stats"]
    assert (answer["source"], answer["data"]["total_ads"]) == ("cache", len(ADS))


def test_generate_daily_report(outcome: Outcome):
    """The API has the report of yesterday, when there were no ads, in its cache."""
    report = outcome.read["daily_report"]
    assert (report["ads_created"], report["metrics"]["new_ads"]["today"]) == (0, 0)


def test_cleanup_old_analytics_cache(outcome: Outcome):
    assert "platform:old" not in outcome.read["analytics"]


def test_moderate_ad_async(outcome: Outcome):
    """The ad is on the site, the API counts it as validated, and its owner knows."""
    assert outcome.read["ads"]["moderate_ad_async"] == ["active", True]
    assert outcome.email_to(outcome.owner, "moderate_ad_async")


@pytest.mark.parametrize("task", OWNER_NOTICES)
def test_owner_notices(outcome: Outcome, task: str):
    """The owner has one email about the ad."""
    assert outcome.email_to(outcome.owner, task)


@pytest.mark.parametrize("task", MANAGER_NOTICES)
def test_manager_notices(outcome: Outcome, task: str):
    """The manager has one email about the ad, and one row that can be marked as read."""
    assert outcome.email_to(outcome.manager, task)
    assert outcome.notification(task)["read"]


def test_send_moderation_email_task(outcome: Outcome):
    assert "Усе гаразд" in outcome.email_to(outcome.addressee, "Звіт").text


def test_create_moderation_notification_task(outcome: Outcome):
    """Staff without settings has the row as it was asked for, which can be marked as read; there is no email."""
    found = outcome.notification("create_moderation_notification_task")
    assert (found["title"], found["action"], found["data"]) == ("Гляньте", "user_complained", {"complaint": 7})
    assert (found["manager"], found["read"]) == (outcome.made["clerk"], True)
    assert [each for each in outcome.emails if "Гляньте" in each.subject] == []


def test_callers_see_the_end_of_each_task(outcome: Outcome):
    """`AsyncResult(task_id).get()` returns."""
    assert outcome.results == dict.fromkeys(outcome.results, "SUCCESS")
