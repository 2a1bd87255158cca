"""The emails that the suite sends, each with the facts that its templates show.

    ad owners   ad_approved  ad_rejected  ad_needs_edit  ad_max_attempts  ad_status_changed
    managers    manager_review_required  manager_ad_flagged  manager_max_attempts  manager_ad_event  manager_digest
                daily_report  incident
    any user    plain

Facts are typed and unformatted; templates format dates, numbers and plurals for the recipient's locale.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from schemas.types import Count, Day, Id, Mean, Moment

# Control characters, line and paragraph separators, and marks that change the text direction.
NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
NOT_IN_A_LINK = re.compile(r"[\x00-\x20\x7f-\xa0\"<>\\^`{|}\u2028\u2029\u202a-\u202e\u2066-\u2069]")
NOT_IN_A_PARAGRAPH = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def _one_line(text: str) -> str:
    return " ".join(NOT_IN_A_LINE.sub(" ", text).split())


def _is_one_line(text: str) -> str:
    if NOT_IN_A_LINE.search(text) or not text.strip():
        raise ValueError("must be one line of printable text")
    return text.strip()


def _paragraph(text: str) -> str:
    return NOT_IN_A_PARAGRAPH.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _web_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right or NOT_IN_A_LINK.search(text):
        raise ValueError(f'"{text}" must be an absolute URL that begins with http:// or https://')
    return text


# Text that users typed is cleaned: an email shows it as one line.
Title = Annotated[str, Field(max_length=255), AfterValidator(_one_line)]
Reason = Annotated[str, Field(max_length=2000), AfterValidator(_one_line)]
Word = Annotated[str, Field(max_length=100), AfterValidator(_one_line)]
# Text that is to be sent as it is, is rejected instead.
Subject = Annotated[str, Field(max_length=200), AfterValidator(_is_one_line)]
Paragraph = Annotated[str, Field(max_length=10_000), AfterValidator(_paragraph)]
Link = Annotated[str, Field(max_length=2000), AfterValidator(_web_address)]
RateValue = Annotated[Decimal, Field(gt=0, lt=10**12, max_digits=24, decimal_places=12)]

Status = Literal["active", "draft", "pending", "needs_review", "rejected", "blocked", "sold", "archived", "inactive"]
OtherStatus = Literal["draft", "pending", "needs_review", "blocked", "sold", "archived", "inactive"]
DigestKind = Literal["manager_review_required", "manager_ad_flagged", "manager_max_attempts", "manager_ad_event"]


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class AnyEmail(_Facts):
    """Fields of every email.

    `subscribed`: recipients can unsubscribe from it, by List-Unsubscribe.
    `critical`: it ignores preferences and is never held for a digest; add to this list only with a reason.
    `lifetime`: how long after `occurred_at`, or else after the request, it is worth sending.
    """

    subscribed: ClassVar[bool] = False
    critical: ClassVar[bool] = False
    lifetime: ClassVar[timedelta] = timedelta(days=7)

    occurred_at: Moment | None = None
    link: Link | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When it is no longer sent; None: `lifetime` after the request."""
        return None if self.occurred_at is None else self.occurred_at + self.lifetime


class _AdEmail(AnyEmail):
    occurred_at: Moment
    ad_id: Id
    ad_title: Title
    reason: Reason | None = None
    reasons: Annotated[list[Reason], Field(max_length=20, fail_fast=True)] = []

    @property
    def all_reasons(self) -> list[str]:
        """Those of the rules, and that of a moderator; each once."""
        return list(dict.fromkeys(reason for reason in (*self.reasons, self.reason) if reason))


class AdApprovedEmail(_AdEmail):
    """The ad is on the site. Two days later its owner has seen it there."""

    lifetime: ClassVar[timedelta] = timedelta(days=2)

    name: Literal["ad_approved"] = "ad_approved"


class AdRejectedEmail(_AdEmail):
    """The ad is not shown; `attempts_left` is how often it may be submitted again (None: not mentioned)."""

    name: Literal["ad_rejected"] = "ad_rejected"
    attempts_left: Count | None = None
    max_attempts: Count = 3


class AdNeedsEditEmail(_AdEmail):
    """The ad is not shown until its owner has changed it; `attempts_left` as in `AdRejected`."""

    name: Literal["ad_needs_edit"] = "ad_needs_edit"
    attempts_left: Count | None = None
    max_attempts: Count = 3


class AdMaxAttemptsEmail(_AdEmail):
    """The ad is rejected after all attempts. Critical: the decision is final."""

    critical: ClassVar[bool] = True

    name: Literal["ad_max_attempts"] = "ad_max_attempts"
    max_attempts: Count = 3


class AdStatusChangedEmail(_AdEmail):
    """The ad has a status that no other email announces."""

    name: Literal["ad_status_changed"] = "ad_status_changed"
    status: OtherStatus


class _ManagerEmail(_AdEmail):
    """`user_id` is the ad's owner, `categories` are those that the checks assigned."""

    user_id: Id | None = None
    categories: Annotated[list[Word], Field(max_length=20, fail_fast=True)] = []


class ManagerReviewRequiredEmail(_ManagerEmail):
    """The ad needs a manual review."""

    name: Literal["manager_review_required"] = "manager_review_required"


class ManagerAdFlaggedEmail(_ManagerEmail):
    """The checks flagged the ad; `suggestions` are what its owner could change."""

    name: Literal["manager_ad_flagged"] = "manager_ad_flagged"
    suggestions: Annotated[list[Reason], Field(max_length=20, fail_fast=True)] = []


class ManagerMaxAttemptsEmail(_ManagerEmail):
    """The owner has used all attempts. Critical: the ad stays rejected until a manager acts."""

    critical: ClassVar[bool] = True

    name: Literal["manager_max_attempts"] = "manager_max_attempts"
    attempts: Count | None = None
    max_attempts: Count = 3


class ManagerAdEventEmail(_ManagerEmail):
    """Any other event of an ad; an unknown `action` is shown as it is."""

    name: Literal["manager_ad_event"] = "manager_ad_event"
    action: Word
    status: Status | None = None
    moderated_by: Word | None = None


class DigestItem(_Facts):
    """One email that a digest replaces."""

    kind: DigestKind
    ad_id: Id
    title: Title
    at: Moment
    url: Link | None = None


class ManagerDigestEmail(AnyEmail):
    """Many notices in one email; `left_out` counts those that it does not list."""

    subscribed: ClassVar[bool] = True
    lifetime: ClassVar[timedelta] = timedelta(days=2)

    name: Literal["manager_digest"] = "manager_digest"
    items: Annotated[list[DigestItem], Field(min_length=1, max_length=100, fail_fast=True)]
    left_out: Count = 0

    @property
    def total(self) -> int:
        return len(self.items) + self.left_out


FigureName = Literal[
    "views",
    "new_ads",
    "new_users",
    "decisions_approve",
    "decisions_needs_edit",
    "decisions_reject",
    "decisions_review",
    "decisions_max_attempts",
    "letters_sent",
    "letters_failed",
]
Gap = Literal["day", "decisions", "letters", "comparison", "rates", "old_rates", "runs", "no_runs"]


class ReportFigure(_Facts):
    """One count of a day; null if unknown. `weekday_mean`: of the same weekday in the four weeks before."""

    name: FigureName
    value: Count | None
    day_before: Count | None = None
    weekday_mean: Mean | None = None

    @property
    def change(self) -> float | None:
        """The difference to the day before, as a share of it."""
        return _share(self.value, self.day_before)

    @property
    def change_to_usual(self) -> float | None:
        """The same to what is usual on this weekday."""
        return _share(self.value, self.weekday_mean)


class ReportRate(_Facts):
    """UAH for one unit of `currency`, as it was in force; `before` is that of the day before, of the same source."""

    currency: Word
    rate: RateValue
    source: Word
    rate_date: Day
    before: RateValue | None = None

    @property
    def change(self) -> float | None:
        """The difference to the day before, as a share of it."""
        return None if self.before is None else float(self.rate / self.before - 1)


class ReportRun(_Facts):
    """What a job did in the night. `failed` counts attempts, `dead` what was given up, `seconds` all that it took."""

    job: Word
    runs: Count
    partial: Count = 0
    failed: Count = 0
    dead: Count = 0
    seconds: Mean = 0


class ReportGap(_Facts):
    """Something that is not known, and so is missing. `since` is the first day that a log still knows of."""

    what: Gap
    names: Annotated[list[Word], Field(max_length=100, fail_fast=True)] = []
    since: Day | None = None


class ReportDay(_Facts):
    """A day of the charts; null: unknown."""

    day: Day
    views: Count | None = None
    new_ads: Count | None = None
    new_users: Count | None = None


class DailyReportEmail(AnyEmail):
    """One day of the marketplace, for managers.

    `runs`: null if no log has any; failed ones come first. `history`: the days of the charts, the report's own last.
    `charts`: images in messages of earlier versions, which are ignored.
    """

    subscribed: ClassVar[bool] = True
    lifetime: ClassVar[timedelta] = timedelta(days=2)

    name: Literal["daily_report"] = "daily_report"
    day: Day
    figures: Annotated[list[ReportFigure], Field(max_length=20, fail_fast=True)]
    rates: Annotated[list[ReportRate], Field(max_length=100, fail_fast=True)] = []
    runs: Annotated[list[ReportRun], Field(max_length=100, fail_fast=True)] | None = None
    missing: Annotated[list[ReportGap], Field(max_length=20, fail_fast=True)] = []
    history: Annotated[list[ReportDay], Field(max_length=31, fail_fast=True)] = []
    charts: Annotated[list[Any], Field(max_length=4, fail_fast=True, exclude=True)] = []

    def count(self, name: FigureName) -> int | None:
        """One of the figures of the day."""
        return next((figure.value for figure in self.figures if figure.name == name), None)

    @property
    def trouble(self) -> list[ReportRun]:
        """The jobs that failed in the night, whatever became of them later."""
        return [run for run in self.runs or () if run.failed or run.dead]


def _share(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base - 1


class IncidentEmail(AnyEmail):
    """What the watchdog has found, for those who run the suite; the fields are those of `incidents`.

    An unknown `kind` is shown as it is. Not critical: who wants to be woken up has the external monitor call.
    """

    lifetime: ClassVar[timedelta] = timedelta(days=2)

    name: Literal["incident"] = "incident"
    kind: Word
    subject: Title
    detail: Reason
    remedy: Reason


class PlainEmail(AnyEmail):
    """Free text: a subject of one line, and paragraphs that may contain line breaks."""

    name: Literal["plain"] = "plain"
    subject: Subject
    paragraphs: Annotated[list[Paragraph], Field(min_length=1, max_length=50, fail_fast=True)]


Email = Annotated[
    AdApprovedEmail
    | AdRejectedEmail
    | AdNeedsEditEmail
    | AdMaxAttemptsEmail
    | AdStatusChangedEmail
    | ManagerReviewRequiredEmail
    | ManagerAdFlaggedEmail
    | ManagerMaxAttemptsEmail
    | ManagerAdEventEmail
    | ManagerDigestEmail
    | DailyReportEmail
    | IncidentEmail
    | PlainEmail,
    Field(discriminator="name"),
]

EMAILS: Mapping[str, type[AnyEmail]] = {
    model.model_fields["name"].default: model for model in get_args(get_args(Email)[0])
}
