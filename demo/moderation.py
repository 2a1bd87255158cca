"""Every path of moderation: ads of owners in three languages, and two managers with different preferences.

Messages are built by hand, as the platform publishes them, and not from the suite's schemas.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import psycopg

OWNERS = {"uk": 11, "en": 12, "ru": 13}  # user ids by locale
DEALER = 14  # may bypass moderation
MANAGERS = {"uk": 15, "en": 16}

PEOPLE = """
UPDATE auth_user SET is_superuser = true, is_staff = true WHERE id = {dealer};
UPDATE auth_user SET is_staff = true WHERE id IN (15, 16);
INSERT INTO add_accounts (id, account_type, moderation_level, role, organization_name, stats_enabled, user_id)
  SELECT id, 'BASIC', 'AUTO', 'seller', '', true, id FROM auth_user WHERE id BETWEEN 11 AND 14;
INSERT INTO notification_preferences (user_id, locale) VALUES (12, 'en'), (13, 'ru'), (16, 'en');
INSERT INTO moderation_manager_notification_settings
  (manager_id, email_enabled, info_table_enabled, email_address, notify_for_actions, is_active, created_at, updated_at)
  VALUES (15, true, true, '', '[]', true, now(), now()),
         (16, true, false, 'night-shift@example.com', '["ad_max_attempts", "ad_flagged"]', true, now(), now());
"""
ADD = """
INSERT INTO car_ads (created_at, updated_at, title, description, price, currency, dynamic_fields, is_validated,
  validation_errors, status, moderation_reason, auto_moderation_attempts, needs_manual_review, model, seller_type,
  geocode, is_favorite, use_profile_contacts, account_id, mark_id, city_id, region_id)
VALUES (now(), now(), %s, %s, %s, 'USD', '{"year": 2012}', false, '{}', 'pending', '', 0, false, 'Lanos', 'private',
  '', false, true, %s, 1, 1, 1) RETURNING id
"""
FIND = "SELECT id, status FROM car_ads WHERE title = ANY(%s) ORDER BY id"
USED_UP = """
INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor, content_hash, decided_at)
  SELECT %s, 'needs_edit', 'pending', 'needs_review', 'contact details', 'rules', 'text ' || n, now() - interval '1 day'
  FROM generate_series(1, 3) AS n
"""
Message = tuple[str, str, dict[str, Any]]  # exchange, routing key and body


@dataclass(frozen=True)
class Ad:
    """An ad to submit, and its expected status."""

    title: str
    description: str
    owner: int
    expected_status: str
    attempts_used: int = 0


CLEAN = "Один власник, гаражне зберігання, свіжий сервіс, нова гума. Торг біля капота."
ADS = (
    Ad("Daewoo Lanos 2012, доглянутий", CLEAN, OWNERS["uk"], "active"),
    Ad("Daewoo Lanos, one owner", "Well kept. Call me on +380 67 123 45 67 any time.", OWNERS["en"], "needs_review"),
    Ad("Ланос на ходу", "Хозяин сука достал, отдам любому за полцены. Машина в порядке.", OWNERS["ru"], "needs_review"),
    Ad("Lanos від дилера", "Пишіть: dealer@example.com", DEALER, "active"),
    Ad("Ланос, четверта спроба", "Телефон той самий, 0671234567", OWNERS["uk"], "rejected", attempts_used=3),
)
# Routing key, index of the ad, action and new status.
NOTICES = (
    ("user.ad.approved", 0, "manually_approved", "active"),
    ("user.ad.rejected", 1, "manually_rejected", "rejected"),
    ("user.ad.needs_edit", 2, "flagged", "needs_review"),
    ("user.ad.max_attempts", 4, "max_attempts_reached", "rejected"),
    ("user.ad.unknown", 1, "manual_status_change", "archived"),
    ("manager.ad.review_required", 1, "needs_review", "pending"),
    ("manager.ad.flagged", 2, "flagged", "needs_review"),
    ("manager.ad.max_attempts", 4, "max_attempts_reached", "rejected"),
)


def seed(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(PEOPLE.format(dealer=DEALER).encode())
        for ad in ADS:
            (ad_id,) = connection.execute(ADD.encode(), [ad.title, ad.description, 3200, ad.owner]).fetchall()[0]
            if ad.attempts_used:
                connection.execute(USED_UP.encode(), [ad_id])


def statuses(database_url: str) -> dict[int, str]:
    with psycopg.connect(database_url) as connection:
        return dict(connection.execute(FIND, [[ad.title for ad in ADS]]).fetchall())


def notice(key: str, ad: Ad, ad_id: int, action: str, status: str) -> Message:
    """Build a notice as the platform does, with a naive timestamp."""
    audience = key.partition(".")[0]
    timestamp = datetime.now().isoformat()  # noqa: DTZ005  as the platform does
    data = {"ad_id": ad_id, "action": action, "status": status, "user_id": ad.owner, "timestamp": timestamp}
    priority = {"priority": 8} if audience == "manager" else {}
    return f"{audience}_notifications", key, {"notification_type": f"{audience}_moderation", "data": data, **priority}


def build_messages(ad_ids: list[int]) -> list[Message]:
    email = {"name": "plain", "subject": "Hello from the demo", "paragraphs": ["An email that an operator requested."]}
    return [
        *(("moderation", "ad.submitted", {"ad_id": ad_id}) for ad_id in ad_ids),
        *(notice(key, ADS[number], ad_ids[number], action, status) for key, number, action, status in NOTICES),
        ("mail", "mail.requested", {"to": "reader@example.com", "locale": "en", "letter": email}),
    ]


async def publish(rabbitmq_url: str, messages: list[Message]) -> list[str]:
    ids = [str(uuid4()) for _ in messages]
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        for message_id, (exchange, key, body) in zip(ids, messages, strict=True):
            target = await channel.get_exchange(exchange, ensure=False)
            await target.publish(aio_pika.Message(json.dumps(body).encode(), message_id=message_id), key)
    return ids


def call_celery(environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "demo.celery_client", "call", "clean_generated_media"],
        env=dict(environment),
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1]


def run(environment: Mapping[str, str]) -> list[str]:
    all_messages = build_messages(list(statuses(environment["DATABASE_URL"])))
    return [*asyncio.run(publish(environment["RABBITMQ_URL"], all_messages)), call_celery(environment)]
