"""A realistic email of each kind, for the preview and for tests."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from consumers.mail.compose.rendering import SiteIdentity
from schemas.emails import (
    AdApprovedEmail,
    AdMaxAttemptsEmail,
    AdNeedsEditEmail,
    AdRejectedEmail,
    AdStatusChangedEmail,
    DailyReportEmail,
    DigestItem,
    DigestKind,
    Email,
    IncidentEmail,
    ManagerAdEventEmail,
    ManagerAdFlaggedEmail,
    ManagerDigestEmail,
    ManagerMaxAttemptsEmail,
    ManagerReviewRequiredEmail,
    PlainEmail,
    ReportDay,
    ReportFigure,
    ReportGap,
    ReportRate,
    ReportRun,
)

SITE = SiteIdentity(name="Автобазар", url="https://cars.example", sender="Автобазар <no-reply@cars.example>")
TIMEZONE = "Europe/Kyiv"
RECIPIENT = "reader@mail.example"
UNSUBSCRIBE = "https://cars.example/unsubscribe/4f1c0c3e9a7d4f0db6c1e2a59b8d7c6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c"

AT = datetime(2026, 11, 20, 12, 5, tzinfo=UTC)
AD, TITLE, OWNER = 4711, "Toyota Camry 2019", 128
PAGE, ADMIN = f"https://cars.example/ads/{AD}", f"https://cars.example/admin/ads/{AD}"
PHONE = "У тексті є номер телефону: покупці бачать його на сторінці оголошення й так"
PRICE = "Ціна 1 USD не схожа на справжню"


def _item(kind: DigestKind, number: int, title: str) -> DigestItem:
    url = f"https://cars.example/admin/ads/{AD + number}"
    return DigestItem(kind=kind, ad_id=AD + number, title=title, at=AT - timedelta(minutes=7 * number), url=url)


SAMPLES: tuple[Email, ...] = (
    AdApprovedEmail(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE),
    AdRejectedEmail(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE, reasons=[PHONE], attempts_left=1),
    AdNeedsEditEmail(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE, reasons=[PHONE, PRICE], attempts_left=2),
    AdMaxAttemptsEmail(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE, reasons=[PHONE]),
    AdStatusChangedEmail(ad_id=AD, ad_title=TITLE, occurred_at=AT, link=PAGE, status="archived"),
    ManagerReviewRequiredEmail(
        ad_id=AD, ad_title=TITLE, occurred_at=AT, link=ADMIN, reasons=[PRICE], user_id=OWNER, categories=["misleading"]
    ),
    ManagerAdFlaggedEmail(
        ad_id=AD,
        ad_title=TITLE,
        occurred_at=AT,
        link=ADMIN,
        reasons=[PHONE],
        user_id=OWNER,
        categories=["contact_data", "misleading"],
        suggestions=["Прибрати номер телефону з опису"],
    ),
    ManagerMaxAttemptsEmail(
        ad_id=AD, ad_title=TITLE, occurred_at=AT, link=ADMIN, reasons=[PHONE], user_id=OWNER, attempts=3
    ),
    ManagerAdEventEmail(
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
    ManagerDigestEmail(
        occurred_at=AT,
        link="https://cars.example/admin/moderation",
        left_out=1204,
        items=[
            _item("manager_review_required", 0, TITLE),
            _item("manager_ad_flagged", 1, "ВАЗ 2107, терміново, недорого, торг біля капота"),
            _item("manager_ad_event", 2, "Škoda Octavia A7 2016"),
        ],
    ),
    DailyReportEmail(
        occurred_at=AT,
        day=date(2026, 11, 19),
        figures=[
            ReportFigure(name="views", value=12_345, day_before=11_020, weekday_mean=12_701.5),
            ReportFigure(name="new_ads", value=310, day_before=287, weekday_mean=301.8),
            ReportFigure(name="new_users", value=84, day_before=91, weekday_mean=79.3),
            ReportFigure(name="decisions_approve", value=268, day_before=240, weekday_mean=255.3),
            ReportFigure(name="decisions_needs_edit", value=31, day_before=29, weekday_mean=30.5),
            ReportFigure(name="decisions_reject", value=7, day_before=9, weekday_mean=8.3),
            ReportFigure(name="decisions_review", value=4, day_before=0, weekday_mean=2.3),
            ReportFigure(name="decisions_max_attempts", value=0, day_before=1, weekday_mean=0.5),
            ReportFigure(name="letters_sent", value=412, day_before=388, weekday_mean=None),
            ReportFigure(name="letters_failed", value=3, day_before=0, weekday_mean=None),
        ],
        rates=[
            ReportRate(
                currency="USD",
                rate=Decimal("44.639500"),
                source="NBU",
                rate_date=date(2026, 11, 19),
                before=Decimal("44.512000"),
            ),
            ReportRate(currency="EUR", rate=Decimal("51.335400"), source="NBU", rate_date=date(2026, 11, 19)),
        ],
        runs=[
            ReportRun(job="rates.update", runs=2, failed=3, dead=1, seconds=184.2),
            ReportRun(job="analytics.quick_stats", runs=71, seconds=95.4),
            ReportRun(job="cleanup.tokens", runs=1, seconds=2.1),
        ],
        missing=[ReportGap(what="rates", names=["PLN", "GBP"])],
        history=[
            ReportDay(
                day=date(2026, 11, 19) - timedelta(days=back),
                views=12_345 + 97 * back - 1_900 * (back % 7 in (4, 5)),
                new_ads=310 + 3 * (back % 5),
                new_users=84 - back % 9,
            )
            for back in range(27, -1, -1)
        ],
    ),
    IncidentEmail(
        occurred_at=AT,
        kind="failing",
        subject="rates.update",
        detail="3 runs in a row failed, the last at 2026-11-20 12:04:31 UTC: NBU: does not answer (ConnectError)",
        remedy="pocketwatch runs --job rates.update --status failed",
    ),
    PlainEmail(
        occurred_at=AT,
        subject="Завтра вночі сайт пів години не працюватиме",
        paragraphs=[
            "Добрий день!",
            "Ми оновлюємо сервери з 02:00 до 02:30.\nОголошення нікуди не зникнуть.",
            "Дякуємо!",
        ],
    ),
)
