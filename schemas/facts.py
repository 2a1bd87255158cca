"""Facts: what has happened, for any consumer."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.locale import Locale
from schemas.message import Fact
from schemas.types import Count, Excerpt, Id, Moment, Name


class RunFailed(Fact):
    """A message has become a dead letter."""

    routing_key: ClassVar[str] = "run.failed"

    job: Excerpt
    message_id: Excerpt
    entry: Excerpt | None
    status: Literal["rejected", "dead"]
    attempt: Count
    error: Excerpt


class AdModerated(Fact):
    """An ad was moderated. `rules` is the version of the rule set."""

    routing_key: ClassVar[str] = "ad.moderated"

    ad_id: Id
    decision: Literal["approve", "needs_edit", "reject", "review"]
    from_status: Name
    to_status: Name
    attempts: Count
    rules: Excerpt | None
    categories: Annotated[list[Name], Field(max_length=1_000, fail_fast=True)]


class Rate(BaseModel):
    """`rate` is UAH for one unit of `currency` on `rate_date` (ISO 8601), as a decimal string."""

    model_config = ConfigDict(frozen=True)

    currency: Name
    rate: Name
    rate_date: Name


class RatesUpdated(Fact):
    """Rates of this source were stored; `fallback_for` names the source that had failed."""

    routing_key: ClassVar[str] = "rates.updated"

    source: Literal["NBU", "PRIVATBANK"]
    fallback_for: Literal["NBU"] | None
    rates: Annotated[list[Rate], Field(max_length=1_000, fail_fast=True)]


class ReportReady(Fact):
    """A result of an analytics job was stored as the row `snapshot_id` of `analytics_snapshots`.

    `period` is the moment or day that it describes (ISO 8601); `locale` is null when it is the same for all languages.
    """

    routing_key: ClassVar[str] = "report.ready"

    kind: Literal["quick_stats", "platform", "daily_report"]
    locale: Locale | None
    period: Name
    snapshot_id: Id


class IncidentOpened(Fact):
    """The watchdog has found a problem, stored as the row `incident_id` of `incidents`.

    It is published once, however long the problem lasts.
    """

    routing_key: ClassVar[str] = "incident.opened"

    incident_id: Id
    kind: Name
    subject: Excerpt
    detail: Excerpt
    remedy: Excerpt
    opened_at: Moment


class IncidentRecovered(Fact):
    """The problem of an incident is gone."""

    routing_key: ClassVar[str] = "incident.recovered"

    incident_id: Id
    kind: Name
    subject: Excerpt
    opened_at: Moment
    recovered_at: Moment
