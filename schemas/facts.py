"""Facts: what has happened, for any consumer."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from schemas.locale import Locale
from schemas.message import Fact


class RunFailed(Fact):
    """A message has become a dead letter."""

    routing_key: ClassVar[str] = "run.failed"

    job: str
    message_id: str
    entry: str | None
    status: Literal["rejected", "dead"]
    attempt: int
    error: str


class AdModerated(Fact):
    """An ad was moderated. `rules` is the version of the rule set."""

    routing_key: ClassVar[str] = "ad.moderated"

    ad_id: int
    decision: Literal["approve", "needs_edit", "reject", "review"]
    from_status: str
    to_status: str
    attempts: int
    rules: str | None
    categories: list[str]


class Rate(BaseModel):
    """`rate` is UAH for one unit of `currency` on `rate_date` (ISO 8601), as a decimal string."""

    model_config = ConfigDict(frozen=True)

    currency: str
    rate: str
    rate_date: str


class RatesUpdated(Fact):
    """Rates of this source were stored; `fallback_for` names the source that had failed."""

    routing_key: ClassVar[str] = "rates.updated"

    source: Literal["NBU", "PRIVATBANK"]
    fallback_for: Literal["NBU"] | None
    rates: list[Rate]


class ReportReady(Fact):
    """A result of an analytics job was stored as the row `snapshot_id` of `analytics_snapshots`.

    `period` is the moment or day that it describes (ISO 8601); `locale` is null when it is the same for all languages.
    """

    routing_key: ClassVar[str] = "report.ready"

    kind: Literal["quick_stats", "platform", "daily_report"]
    locale: Locale | None
    period: str
    snapshot_id: int
