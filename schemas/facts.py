"""Facts: events in the past tense, for any subscriber."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from schemas.locale import Locale
from schemas.message import Fact


class RunFailed(Fact):
    """A message is in a dead-letter queue and is not retried automatically."""

    routing_key: ClassVar[str] = "run.failed"

    job: str
    message_id: str
    entry: str | None
    status: Literal["rejected", "dead"]
    attempt: int
    error: str


class AdModerated(Fact):
    """An ad was moderated; `rules` is the version of the rule set."""

    routing_key: ClassVar[str] = "ad.moderated"

    ad_id: int
    decision: Literal["approve", "needs_edit", "reject", "review"]
    from_status: str
    to_status: str
    attempts: int
    rules: str | None
    categories: list[str]


class Rate(BaseModel):
    """A stored rate: UAH for one unit of `currency` on `rate_date` (ISO 8601), as a decimal string."""

    model_config = ConfigDict(frozen=True)

    currency: str
    rate: str
    rate_date: str


class RatesUpdated(Fact):
    """Rates of this source were stored; `fallback_for` names the source that failed before."""

    routing_key: ClassVar[str] = "rates.updated"

    source: Literal["NBU", "PRIVATBANK"]
    fallback_for: Literal["NBU"] | None
    rates: list[Rate]


class ReportReady(Fact):
    """A result of an analytics job was stored as row `snapshot_id` of `analytics_snapshots`.

    `period` is its time or day (ISO 8601); `locale` is null for a result that has no language.
    """

    routing_key: ClassVar[str] = "report.ready"

    kind: Literal["quick_stats", "platform", "daily_report"]
    locale: Locale | None
    period: str
    snapshot_id: int
