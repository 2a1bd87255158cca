"""One letter of each kind, as one that somebody could get: for the preview."""

# ruff: noqa: RUF001  Cyrillic letters look like Latin ones, and are meant

from datetime import UTC, datetime, timedelta

from consumers.mail.rendering import Site
from schemas.letters import (
    AdApproved,
    AdMaxAttempts,
    AdNeedsEdit,
    AdRejected,
    AdStatusChanged,
    DigestItem,
    Letter,
    ManagerAdEvent,
    ManagerAdFlagged,
    ManagerDigest,
    ManagerMaxAttempts,
    ManagerReviewRequired,
    Noticed,
    Plain,
)

SITE = Site(name="Автобазар", url="https://cars.example", sender="Автобазар <no-reply@cars.example>")
TIMEZONE = "Europe/Kyiv"
READER = "reader@mail.example"
UNSUBSCRIBE = "https://cars.example/unsubscribe/4f1c0c3e9a7d4f0db6c1e2a59b8d7c6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c"

AT = datetime(2026, 11, 20, 12, 5, tzinfo=UTC)
AD, TITLE, OWNER = 4711, "Toyota Camry 2019", 128
PAGE, ADMIN = f"https://cars.example/ads/{AD}", f"https://cars.example/admin/ads/{AD}"
PHONE = "У тексті є номер телефону: покупці бачать його на сторінці оголошення й так"
PRICE = "Ціна 1 USD не схожа на справжню"


def _item(kind: Noticed, number: int, title: str) -> DigestItem:
    url = f"https://cars.example/admin/ads/{AD + number}"
    return DigestItem(kind=kind, ad_id=AD + number, title=title, at=AT - timedelta(minutes=7 * number), url=url)


SAMPLES: tuple[Letter, ...] = (
    AdApproved(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE),
    AdRejected(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE, reasons=[PHONE], attempts_left=1),
    AdNeedsEdit(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE, reasons=[PHONE, PRICE], attempts_left=2),
    AdMaxAttempts(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE, reasons=[PHONE]),
    AdStatusChanged(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE, status="archived"),
    ManagerReviewRequired(
        ad_id=AD, ad_title=TITLE, occurred_at=AT, link=ADMIN, reasons=[PRICE], user_id=OWNER, categories=["misleading"]
    ),
    ManagerAdFlagged(
        ad_id=AD,
        ad_title=TITLE,
        occurred_at=AT,
        link=ADMIN,
        reasons=[PHONE],
        user_id=OWNER,
        categories=["contact_data", "misleading"],
        suggestions=["Прибрати номер телефону з опису"],
    ),
    ManagerMaxAttempts(
        ad_id=AD, ad_title=TITLE, occurred_at=AT, link=ADMIN, reasons=[PHONE], user_id=OWNER, attempts=3
    ),
    ManagerAdEvent(
        ad_id=AD,
        ad_title=TITLE,
        occurred_at=AT,
        link=ADMIN,
        reason="Власник виправив опис",
        user_id=OWNER,
        action="manual_status_change",
        status="active",
        moderated_by="olena",
    ),
    ManagerDigest(
        occurred_at=AT,
        link="https://cars.example/admin/moderation",
        left_out=1204,
        items=[
            _item("manager_review_required", 0, TITLE),
            _item("manager_ad_flagged", 1, "ВАЗ 2107, терміново, недорого, торг біля капота"),
            _item("manager_ad_event", 2, "Škoda Octavia A7 2016"),
        ],
    ),
    Plain(
        occurred_at=AT,
        subject="Завтра вночі сайт пів години не працюватиме",
        paragraphs=[
            "Добрий день!",
            "Ми оновлюємо сервери з 02:00 до 02:30.\nОголошення нікуди не зникнуть.",
            "Дякуємо!",
        ],
    ),
)
