"""analytics.daily_report: each figure equals a plain count, and each reader gets one email per day."""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from consumers.analytics.report import daily_report as job
from consumers.analytics.report import figures as report
from consumers.analytics.rollup import daily_activity
from consumers.moderation.review.decisions import Action
from pocketwatch.broker.publisher import Publisher
from pocketwatch.errors import Reject
from pocketwatch.settings import Settings
from pocketwatch.storage.database import Database
from pocketwatch.worker.executors import JobExecutor
from publishers import trigger
from schemas.emails import FigureName
from schemas.envelope import Envelope
from schemas.ticks import DailyReport
from tests.fixtures.activity import ZONE, Activity
from tests.fixtures.mail import Serving
from tests.fixtures.smtp import SmtpServer
from tests.fixtures.suite import Consume, Deliver, Runs
from tests.support.job_contexts import job_context
from tests.support.waiting import eventually

JOB = "analytics.daily_report"
KYIV = ZoneInfo(ZONE)
DAY = timedelta(days=1)
COLUMNS = ("value", "day_before", "weekday_mean")
DECISION = """
INSERT INTO moderation_decisions (ad_id, action, from_status, to_status, reason, actor, decided_at)
SELECT 1, %(action)s, 'pending', 'active', '', 'rules', moment FROM unnest(%(moments)s::timestamptz[]) AS moment
"""
LOGGED_EMAIL = """
INSERT INTO moderation_notification_logs (method, recipient, status, error_message, sent_at, external_id)
SELECT 'email', 'a@example.com', %(status)s, '', moment, '' FROM unnest(%(moments)s::timestamptz[]) AS moment
"""
RUN = """
INSERT INTO update_logs (job, message_id, trigger, started_at, finished_at, status, attempt, worker)
VALUES (%(job)s, %(id)s, 'schedule', %(at)s, %(at)s + interval '90 seconds', %(status)s, %(attempt)s, 'w')
"""
RATE = """
INSERT INTO currency_rates
  (base_currency, target_currency, rate, source, fetched_at, is_active, created_at, updated_at, rate_date)
SELECT 'UAH', %(currency)s, %(rate)s, source, %(day)s::date + length(source) * interval '1 hour', true, now(), now(),
  %(day)s FROM (VALUES (%(source)s::text)) AS given (source)
"""
MANAGER = """
INSERT INTO moderation_manager_notification_settings
  (manager_id, email_enabled, info_table_enabled, email_address, notify_for_actions, is_active, created_at, updated_at)
VALUES (%(id)s, %(email)s, true, %(address)s, %(actions)s, %(active)s, now(), now())
"""
# Each figure by a plain statement of its own.
PLAIN = {
    "views": "FROM ad_views WHERE (created_at AT TIME ZONE %(zone)s)::date = %(day)s",
    "new_ads": "FROM car_ads WHERE (created_at AT TIME ZONE %(zone)s)::date = %(day)s",
    "new_users": "FROM auth_user WHERE (created_at AT TIME ZONE %(zone)s)::date = %(day)s",
    **{
        f"decisions_{action}": "FROM moderation_decisions "
        f"WHERE action = '{action}' AND (decided_at AT TIME ZONE %(zone)s)::date = %(day)s"
        for action in ("approve", "needs_edit", "reject", "review")
    },
    "decisions_max_attempts": "FROM moderation_decisions "
    "WHERE action = 'max_attempts_reached' AND (decided_at AT TIME ZONE %(zone)s)::date = %(day)s",
    **{
        f"letters_{status}": "FROM moderation_notification_logs "
        f"WHERE method = 'email' AND status = '{status}' AND (sent_at AT TIME ZONE %(zone)s)::date = %(day)s"
        for status in ("sent", "failed")
    },
}


def yesterday() -> date:
    return datetime.now(KYIV).date() - DAY


def noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 12, tzinfo=KYIV)


def plain(activity: Activity, day: date) -> dict[str, int]:
    return {
        name: activity.rows(f"SELECT count(*) {sql}", zone=ZONE, day=day)[0]["count"] for name, sql in PLAIN.items()
    }


def stored(activity: Activity, locale: str = "en") -> dict[str, Any]:
    (row,) = activity.rows(
        "SELECT payload FROM analytics_snapshots WHERE kind = 'daily_report' AND locale = %(locale)s", locale=locale
    )
    return row["payload"]


def figures(payload: dict[str, Any], column: str = "value") -> dict[FigureName, Any]:
    return {figure["name"]: figure[column] for figure in payload["figures"]}


def requested_emails(activity: Activity) -> list[dict[str, Any]]:
    rows = activity.rows("SELECT payload FROM outbox WHERE routing_key = 'mail.requested' ORDER BY id")
    return [row["payload"] for row in rows]


def run(activity: Activity, name: str, at: datetime, status: str = "succeeded", *, attempt: int = 1) -> None:
    activity.run(RUN, job=name, id=f"{name}-{at.isoformat()}", at=at, status=status, attempt=attempt)


def manager(
    activity: Activity,
    *,
    locale: str | None = None,
    address: str = "",
    actions: str = "[]",
    email: bool = True,
    active: bool = True,
    staff: bool = True,
) -> int:
    """Add a manager with these settings."""
    (number,) = activity.users(None)
    activity.run("UPDATE auth_user SET is_staff = %(staff)s WHERE id = %(id)s", staff=staff, id=number)
    activity.run(MANAGER, id=number, email=email, address=address, actions=actions, active=active)
    if locale:
        activity.run(
            "INSERT INTO notification_preferences (user_id, locale) VALUES (%(id)s, %(l)s)", id=number, l=locale
        )
    return number


def everything(activity: Activity, day: date) -> None:
    """Something of each kind on the day, on the day before, and on the same weekday of the weeks before."""
    for back, count in ((0, 5), (1, 3), (7, 2), (14, 4), (21, 1), (28, 9)):
        moment = noon(day - back * DAY)
        activity.views(moment, count=10 * count)
        activity.ads(*[moment] * count)
        activity.users(*[moment] * (count + 1))
        for extra, action in enumerate((*get_args(Action), "archived")):
            activity.run(DECISION, action=action, moments=[moment] * (count + extra))
        activity.run(LOGGED_EMAIL, status="sent", moments=[moment] * (count + 2))
        activity.run(LOGGED_EMAIL, status="failed", moments=[moment] * count)
        activity.run(LOGGED_EMAIL, status="suppressed", moments=[moment])
        run(activity, "cleanup.tokens", moment)


def rates(activity: Activity, day: date) -> None:
    """Those of all currencies, for the day and the day before."""
    for currency in ("USD", "EUR", "PLN", "GBP"):
        activity.run(RATE, currency=currency, rate="44", source="NBU", day=day - DAY)
        activity.run(RATE, currency=currency, rate="44.44", source="NBU", day=day)


async def test_each_figure_equals_a_plain_count(deliver: Deliver, activity: Activity):
    day = yesterday()
    everything(activity, day)
    rates(activity, day)
    run(activity, "cleanup.media", noon(day) + timedelta(hours=8))

    row = await deliver(DailyReport())

    assert (row["status"], row["error"]) == ("succeeded", None)
    payload = stored(activity)
    assert payload["day"] == str(day)
    assert figures(payload) == plain(activity, day)
    assert figures(payload, "day_before") == plain(activity, day - DAY)
    weeks = [plain(activity, day - week * 7 * DAY) for week in (1, 2, 3, 4)]
    assert figures(payload, "weekday_mean") == {name: sum(week[name] for week in weeks) / 4 for name in PLAIN}
    assert all(figures(payload).values())
    assert figures(payload, "change")["views"] == pytest.approx(50 / 30 - 1, abs=1e-4)
    assert payload["complete"]
    assert row["statistics"]["missing"] == []


def test_every_moderation_decision_has_a_figure():
    actions = set(get_args(Action))

    assert set(daily_activity.DECISIONS) == set(report.ACTIONS.values()) == actions


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2025, 3, 30), 23), (date(2025, 10, 26), 25), (date(2025, 7, 1), 24)], ids=str
)
async def test_day_with_23_or_25_hours_holds_all_its_rows(
    activity: Activity, database: Database, settings: Settings, day: date, hours: int
):
    start = datetime(day.year, day.month, day.day, tzinfo=KYIV).astimezone(UTC)
    half = timedelta(minutes=30)
    activity.views(*(start + hour * timedelta(hours=1) + half for hour in range(-2, 27)))
    activity.users(start - timedelta(seconds=1), start, start + timedelta(hours=hours) - timedelta(seconds=1))
    activity.users(start + timedelta(hours=hours))

    await run_at(noon(day + DAY), DailyReport(), database, settings)

    payload = stored(activity)
    assert payload["day"] == str(day)
    assert (figures(payload)["views"], figures(payload)["new_users"]) == (hours, 2)


async def run_at(moment: datetime, tick: DailyReport, database: Database, settings: Settings) -> dict[str, Any]:
    """The job at this moment; what it records."""
    work = job_context(JOB, database, settings, now=moment)
    async with work.session:
        await job.report_day(tick, work)
        await work.session.commit()
    return work.statistics | {"status": work.status, "reason": work.reason}


async def test_day_that_is_not_over_is_refused_with_its_closing_time(deliver: Deliver, activity: Activity):
    today = yesterday() + DAY
    closing = datetime.combine(today + DAY, datetime.min.time(), tzinfo=KYIV)

    row = await deliver(DailyReport(day=today))

    assert row["status"] == "dead"
    assert row["error"] == (f"day {today}: not over; request its report after {closing.isoformat()} (Europe/Kyiv)")
    assert activity.rows("SELECT 1 FROM analytics_snapshots") == []


@pytest.mark.parametrize("day", [date(2, 1, 1), date(1969, 12, 31)])
async def test_day_out_of_range_is_refused(activity: Activity, database: Database, settings: Settings, day: date):
    with pytest.raises(Reject, match="out of range"):
        await run_at(datetime.now(UTC), DailyReport(day=day), database, settings)


async def test_day_closes_at_midnight_in_kyiv(activity: Activity, database: Database, settings: Settings):
    activity.views(noon(date(2025, 7, 1)))
    midnight = datetime(2025, 7, 2, tzinfo=KYIV)

    with pytest.raises(Reject, match="not over; request its report after 2025-07-02T00:00:00"):
        await run_at(midnight - timedelta(seconds=1), DailyReport(day=date(2025, 7, 1)), database, settings)
    await run_at(midnight + timedelta(seconds=1), DailyReport(day=date(2025, 7, 1)), database, settings)

    assert figures(stored(activity))["views"] == 1


async def test_report_of_an_old_day_lists_what_was_purged(deliver: Deliver, activity: Activity):
    day = yesterday() - 200 * DAY
    activity.views(noon(day), count=7)
    activity.ads(noon(day - DAY))
    run(activity, "cleanup.tokens", noon(yesterday()))

    row = await deliver(DailyReport(day=day))

    payload = stored(activity)
    assert row["status"] == "succeeded"
    assert figures(payload)["views"] == 7
    assert figures(payload, "day_before")["new_ads"] == 1
    unknown = {name for name, value in figures(payload).items() if value is None}
    assert unknown == {name for name in PLAIN if name.startswith(("decisions", "letters"))}
    assert payload["runs"] is None
    assert not payload["complete"]
    missing = {gap["what"]: gap for gap in payload["missing"]}
    assert set(missing) == {"decisions", "letters", "rates", "runs"}
    assert missing["runs"]["since"] == str(yesterday())
    assert missing["rates"]["names"] == ["USD", "EUR", "PLN", "GBP"]


async def test_day_before_all_data_is_reported_as_unknown(deliver: Deliver, activity: Activity):
    manager(activity, locale="en")
    activity.views(noon(yesterday()))

    await deliver(DailyReport(day=date(2001, 2, 3)))

    payload = stored(activity)
    assert {value for column in COLUMNS for value in figures(payload, column).values()} == {None}
    assert "day" in [gap["what"] for gap in payload["missing"]]
    (request,) = requested_emails(activity)
    assert {day["views"] for day in request["letter"]["history"]} == {None}


async def test_empty_platform_has_a_report(deliver: Deliver, activity: Activity):
    row = await deliver(DailyReport())

    assert row["status"] == "partial"
    assert row["error"] == f"missing in the report of {yesterday()}: rates"
    assert figures(stored(activity))["views"] == 0


async def test_counts_before_the_logs_began_are_unknown(deliver: Deliver, activity: Activity):
    day = yesterday()
    activity.views(noon(day - 5 * DAY))
    run(activity, "cleanup.tokens", noon(day - DAY))

    await deliver(DailyReport())

    payload = stored(activity)
    assert figures(payload)["decisions_approve"] == 0
    assert figures(payload, "day_before")["letters_sent"] == 0
    assert figures(payload, "weekday_mean")["letters_sent"] is None


async def test_rates_are_those_in_force_on_the_day(deliver: Deliver, activity: Activity):
    day = yesterday()
    activity.views(noon(day))
    for currency, rate, source, back in (
        ("USD", "44", "NBU", 1),
        ("USD", "44.44", "NBU", 0),
        ("USD", "45", "PRIVATBANK", 0),
        ("USD", "99", "NBU", -1),
        ("EUR", "51", "PRIVATBANK", 3),
        ("PLN", "12", "NBU", 9),
    ):
        activity.run(RATE, currency=currency, rate=rate, source=source, day=day - back * DAY)

    row = await deliver(DailyReport())

    payload = stored(activity)
    assert [
        (rate["currency"], float(rate["rate"]), rate["source"], rate["rate_date"], rate["change"])
        for rate in payload["rates"]
    ] == [
        ("USD", 44.44, "NBU", str(day), 0.01),
        ("EUR", 51.0, "PRIVATBANK", str(day - 3 * DAY), 0.0),
        ("PLN", 12.0, "NBU", str(day - 9 * DAY), 0.0),
    ]
    gaps = {gap["what"]: gap["names"] for gap in payload["missing"] if gap["names"]}
    assert gaps == {"rates": ["GBP"], "old_rates": ["PLN"]}
    assert (row["status"], row["error"]) == ("partial", f"missing in the report of {day}: rates, old_rates")


async def test_runs_of_the_night_list_failed_jobs_first(deliver: Deliver, activity: Activity):
    day = yesterday() - 10 * DAY
    evening = datetime.combine(day, datetime.min.time(), tzinfo=KYIV) + timedelta(hours=18)
    activity.views(noon(day))
    run(activity, "cleanup.media", evening - timedelta(seconds=1))
    run(activity, "cleanup.tokens", evening)
    run(activity, "cleanup.tokens", evening + timedelta(hours=2))
    for attempt, status in enumerate(("failed", "failed", "dead"), start=1):
        run(activity, "rates.update", evening + timedelta(hours=3), status, attempt=attempt)
    run(activity, "moderation.review", evening + timedelta(hours=3))
    run(activity, "maintenance.vacuum", evening + timedelta(hours=18))

    await deliver(DailyReport(day=day))

    assert stored(activity)["runs"] == [
        {"job": "rates.update", "runs": 1, "partial": 0, "failed": 2, "dead": 1, "seconds": 270.0},
        {"job": "cleanup.tokens", "runs": 2, "partial": 0, "failed": 0, "dead": 0, "seconds": 180.0},
    ]


async def test_report_is_sent_to_subscribed_managers_in_their_language(deliver: Deliver, activity: Activity):
    day = yesterday()
    everything(activity, day)
    manager(activity, locale="en", address="en@example.com")
    manager(activity, locale="ru", address="ru@example.com", actions='["ad_flagged", "Daily_Report"]')
    manager(activity, address="uk@example.com")
    manager(activity, address="UK@example.com", locale="en")
    manager(activity, address="x1@example.com", actions='["ad_flagged"]')
    manager(activity, address="x2@example.com", email=False)
    manager(activity, address="x3@example.com", active=False)
    manager(activity, address="x4@example.com", staff=False)
    own = manager(activity, locale="en", actions="null")

    await deliver(DailyReport())

    asked = {request["to"]: request for request in requested_emails(activity)}
    (address,) = [row["email"] for row in activity.rows("SELECT email FROM auth_user WHERE id = %(id)s", id=own)]
    assert {to: request["locale"] for to, request in asked.items()} == {
        "en@example.com": "en",
        "ru@example.com": "ru",
        "uk@example.com": "uk",
        address: "en",
    }
    assert asked["en@example.com"]["key"] == f"daily_report:{day}:en@example.com"
    assert asked[address]["user_id"] == own
    history = asked["ru@example.com"]["letter"]["history"]
    assert [history[0]["day"], history[-1]["day"]] == [str(day - 27 * DAY), str(day)]
    assert history[-1] == {"day": str(day), "views": 50, "new_ads": 5, "new_users": 6}
    assert len(json.dumps(asked["ru@example.com"])) < 5000
    log = activity.rows("SELECT * FROM moderation_notification_logs WHERE letter = 'daily_report' ORDER BY recipient")
    assert {row["recipient"] for row in log} == set(asked)
    assert {(row["method"], row["status"]) for row in log} == {("email", "pending")}


async def test_invalid_address_is_recorded_and_skipped(deliver: Deliver, activity: Activity):
    activity.views(noon(yesterday()))
    lost = manager(activity, address="no address at all")
    manager(activity, address="sound@example.com")

    row = await deliver(DailyReport())

    assert [request["to"] for request in requested_emails(activity)] == ["sound@example.com"]
    assert row["statistics"]["readers_without_address"] == [lost]
    (line,) = activity.rows("SELECT * FROM moderation_notification_logs WHERE status = 'failed'")
    assert (line["recipient"], line["error_message"]) == (
        "",
        'address "no address at all": not an email address',
    )


async def test_report_requested_twice_is_sent_once_per_reader(deliver: Deliver, activity: Activity):
    day = yesterday()
    activity.views(noon(day))
    manager(activity, address="first@example.com")

    await deliver(DailyReport())
    manager(activity, address="second@example.com")
    again = await deliver(DailyReport(day=day))
    await deliver(DailyReport(day=day - DAY))

    assert again["statistics"]["letters"] == 1
    assert [(request["to"], request["letter"]["day"]) for request in requested_emails(activity)] == [
        ("first@example.com", str(day)),
        ("second@example.com", str(day)),
        ("first@example.com", str(day - DAY)),
        ("second@example.com", str(day - DAY)),
    ]
    kept = activity.rows("SELECT period, locale FROM analytics_snapshots ORDER BY period, locale")
    assert len(kept) == 6


async def test_concurrent_runs_send_one_email_per_reader(activity: Activity, database: Database, settings: Settings):
    activity.views(noon(yesterday()))
    for number in range(5):
        manager(activity, address=f"reader{number}@example.com")

    await asyncio.gather(*(run_through(database, settings) for _ in range(4)))

    assert sorted(request["to"] for request in requested_emails(activity)) == [
        f"reader{number}@example.com" for number in range(5)
    ]


async def run_through(database: Database, settings: Settings) -> None:
    """Handle one message without the queue, which would let one run at a time."""
    envelope = Envelope(message_id=str(uuid4()), correlation_id="", exchange="ticks", routing_key=JOB)
    await JobExecutor(JOB, job.report_day, database, settings, single_active=False).handle(envelope, DailyReport())


async def test_same_message_twice_is_one_report(
    activity: Activity, publisher: Publisher, consume: Consume, runs: Runs, database: Database, settings: Settings
):
    activity.views(noon(yesterday()))
    manager(activity, address="reader@example.com")
    async with consume(job.report_day):
        envelope = await trigger.publish(publisher, DailyReport())
        await runs.over(envelope.message_id)

    again = await JobExecutor(JOB, job.report_day, database, settings, single_active=True).handle(
        envelope, DailyReport()
    )

    assert again == "duplicate"
    assert len(requested_emails(activity)) == 1


async def test_crashed_run_leaves_nothing_and_is_repeated(
    activity: Activity, database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    activity.views(noon(yesterday()))
    manager(activity, address="reader@example.com")

    def dying(*_: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as broken:
        broken.setattr(job, "email_of", dying)
        with pytest.raises(RuntimeError, match="out of memory"):
            await run_through(database, settings)
    assert activity.rows("SELECT 1 FROM moderation_notification_logs") == []
    assert activity.rows("SELECT 1 FROM analytics_snapshots") == []

    await run_through(database, settings)

    assert len(requested_emails(activity)) == 1


async def test_each_reader_receives_one_email_with_charts(
    activity: Activity, database: Database, settings: Settings, serving: Serving, smtp: SmtpServer, relay: None
):
    everything(activity, yesterday())
    readers = ["one@example.com", "two@example.com"]
    for address in readers:
        manager(activity, address=address, locale="en")

    async with serving():
        for _ in range(2):
            await run_through(database, settings)
        await eventually(lambda: all_sent(activity, len(readers)))

    assert len(requested_emails(activity)) == len(readers)
    assert sorted(email.recipients for email in smtp.emails) == [(address,) for address in readers]
    for email in smtp.emails:
        images = {part["Content-ID"] for part in email.message.walk() if part.get_content_type() == "image/png"}
        html = email.message.get_body(("html",))
        assert html is not None
        assert images == {"<views>", "<people>", "<decisions>"}
        assert all(f"cid:{image.strip('<>')}" in html.get_content() for image in images)


async def all_sent(activity: Activity, count: int) -> bool:
    rows = activity.rows("SELECT status FROM moderation_notification_logs WHERE letter = 'daily_report'")
    return [row["status"] for row in rows] == ["sent"] * count


async def test_report_is_shown_as_tables_and_as_json(deliver: Deliver, activity: Activity, pocketwatch: Any):
    everything(activity, yesterday())
    await deliver(DailyReport())

    shown = pocketwatch("analytics", "show", "daily_report", "--locale", "en", COLUMNS="200")
    read = pocketwatch.json("analytics", "show", "daily_report", "--locale", "uk")

    assert shown.returncode == 0, shown.stderr
    assert "New ads" in shown.stdout
    assert "+66.7%" in shown.stdout
    assert "USD, EUR, PLN, GBP" in shown.stdout
    assert read["payload"]["figures"][0]["label"] == "Перегляди"
