"""Where the platform's processes send tasks, as the guide says, and what it says to change."""

import ast
import re
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery

from pocketwatch.broker.declare import declare_missing, queue_info
from pocketwatch.broker.publisher import Publisher
from pocketwatch.broker.topology import CELERY
from pocketwatch.settings import Settings
from tests.fixtures.servers import ROOT
from tests.fixtures.site import Site

GUIDE = (ROOT / "docs" / "migrating-from-celery.md").read_text(encoding="utf-8")
IMAGE = "tests.site.workers.process_image_async"
OTHERS = (
    "core.services.image_service.process_image_async",
    "core.services.image_service.optimize_image_async",
    "core.services.mailing_service.send_email_async",
    "core.services.mailing_service.send_bulk_email_async",
    "core.services.push_service.send_push_notification_async",
    "core.services.push_service.send_bulk_push_notification_async",
    "apps.ads.tasks.mock_generation_tasks.generate_bulk_mock_ads",
    "apps.ads.tasks.mock_generation_tasks.generate_mock_images_for_ad",
    "apps.ads.tasks.mock_generation_tasks.generate_single_mock_ad",
    "apps.ads.tasks.image_generation_tasks.generate_ads_series_async",
    "apps.ads.tasks.image_generation_tasks.generate_single_car_image_async",
    "apps.ads.tasks.image_generation_tasks.generate_car_images_batch_async",
    "apps.ads.tasks.image_generation_tasks.get_series_status",
    "apps.ads.tasks.image_generation_tasks.finalize_ads_series",
)


def with_variables(site: Site, settings: Settings) -> Site:
    """The site, with the variables that the guide asks for."""
    ours = {"CELERY_BROKER_URL": settings.rabbitmq_urls[0], "CELERY_RESULT_BACKEND": settings.servers.redis_url or ""}
    return replace(site, environment=site.environment | ours)


def test_web_process_without_variables_sends_to_localhost(site: Site):
    assert site.call("workers.where") == {
        "broker": "amqp://guest:**@localhost:5672//",
        "queue": "celery",
        "has_backend": False,
    }


async def test_web_process_with_variables_sends_to_the_bridge(site: Site, settings: Settings, publisher: Publisher):
    await declare_missing(publisher.connection, CELERY)
    configured = with_variables(site, settings)

    configured.call("workers.delay", task=IMAGE, args=["image"])

    assert configured.call("workers.where")["has_backend"]
    assert await queue_info(publisher.connection, "celery") == (1, 0)


def test_command_of_the_guide_shows_where_tasks_go(site: Site, settings: Settings):
    (command,) = re.findall(r"^\$ python manage\.py shell -c '([^']+)'$", GUIDE, re.MULTILINE)

    configured = with_variables(site, settings).manage("shell", "-c", command).split()

    vhost = settings.rabbitmq_urls[0].rpartition("/")[2]
    assert [configured[-2].rpartition("/")[2], configured[-1]] == [vhost, "celery"]
    assert ":**@" in configured[-2]
    assert site.manage("shell", "-c", command).split()[-2] == "amqp://guest:**@localhost:5672//"


@pytest.fixture
def routed() -> Celery:
    """An app with the routes of the guide."""
    (block,) = re.findall(r"^CELERY_TASK_ROUTES = (\{.*?^\})", GUIDE, re.MULTILINE | re.DOTALL)
    routes: dict[str, Any] = ast.literal_eval(block)
    return Celery("routed", set_as_current=False, task_routes=routes, broker="memory://")


@pytest.mark.parametrize("name", OTHERS)
def test_routes_of_the_guide_lead_to_the_sites_workers(routed: Celery, name: str):
    assert routed.amqp.router.route({}, name)["queue"].name == "site.tasks"


@pytest.mark.parametrize("name", ["clean_generated_media", "apps.ads.tasks.analytics_tasks.generate_quick_stats"])
def test_routes_of_the_guide_leave_our_tasks_alone(routed: Celery, name: str):
    assert routed.amqp.router.route({}, name)["queue"].name == "celery"
