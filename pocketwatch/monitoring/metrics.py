"""The metrics of a process, for Prometheus, and what counts them.

    run_ended(…), fire_recorded(…), …     counted here, in the process, where it happens
    gauges of the whole suite             read from the database and the broker for each scrape: `suite_figures`

Nothing is counted, and the library is not imported, before `recording`: a process without an HTTP port pays nothing.
A label never holds what others have chosen, such as a message id or a routing key: each value is a series of its own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric as Family

Kind = Literal["counter", "gauge", "histogram"]
Figures = Mapping[str, Sequence[tuple[Sequence[str], float]]]  # by metric: values of its labels, and the figure

DURATIONS = (0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)  # seconds
LATENESS = (0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0, 21600.0)  # seconds
COUNTED = ("succeeded", "partial", "failed", "dead", "rejected")  # that each job has from its start, from zero


@dataclass(frozen=True)
class Metric:
    """A family of series."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# Of this process.
PROCESS = (
    Metric("pocketwatch_process_info", "gauge", "Always 1; the labels describe the process.", ("version", "kind")),
    Metric("pocketwatch_ready", "gauge", "1 while `/health/ready` is 200."),
    Metric("pocketwatch_database_up", "gauge", "1 while the database answers this process."),
    Metric(
        "pocketwatch_runs_total",
        "counter",
        "Attempts that ended in this process.",
        ("job", "status"),
    ),
    Metric(
        "pocketwatch_run_duration_seconds",
        "histogram",
        "From the delivery to the end of the attempt.",
        ("job",),
        DURATIONS,
    ),
    Metric(
        "pocketwatch_fires_total",
        "counter",
        "Fires that this publisher recorded.",
        ("entry", "state"),
    ),
    Metric(
        "pocketwatch_fire_lateness_seconds",
        "histogram",
        "From the due time of a fire to its record.",
        ("entry",),
        LATENESS,
    ),
    Metric(
        "pocketwatch_outbox_relayed_total",
        "counter",
        "Outbox rows that this publisher `sent`, or that `failed`.",
        ("result",),
    ),
    Metric(
        "pocketwatch_figure_errors_total",
        "counter",
        "Reads of a metric of the suite that failed.",
        ("metric",),
    ),
)
# Of the whole suite: each process that shows them shows the same.
SUITE = (
    Metric("pocketwatch_outbox_unsent", "gauge", "Due rows of the outbox, up to 10000."),
    Metric("pocketwatch_outbox_oldest_seconds", "gauge", "Age of the oldest due outbox row."),
    Metric("pocketwatch_runs_running", "gauge", "Runs in progress.", ("job",)),
    Metric("pocketwatch_retries_waiting", "gauge", "Messages that wait for another attempt.", ("job",)),
    Metric(
        "pocketwatch_job_failures_in_row",
        "gauge",
        "Failures since the last success, up to 50.",
        ("job",),
    ),
    Metric(
        "pocketwatch_job_last_success_timestamp_seconds", "gauge", "When a run of the job last succeeded.", ("job",)
    ),
    Metric(
        "pocketwatch_entry_last_success_timestamp_seconds",
        "gauge",
        "When a run of the entry last succeeded.",
        ("entry",),
    ),
    Metric(
        "pocketwatch_entry_overdue_seconds",
        "gauge",
        "How long the next fire has been due; 0 while paused.",
        ("entry",),
    ),
    Metric(
        "pocketwatch_fires_last_day",
        "gauge",
        "Fires of the last 24 hours; `open` while not ended.",
        ("entry", "outcome"),
    ),
    Metric("pocketwatch_queue_messages", "gauge", "Messages that are ready in a queue of the suite.", ("queue",)),
    Metric("pocketwatch_queue_consumers", "gauge", "Consumers of a queue of the suite.", ("queue",)),
    Metric("pocketwatch_dead_letters", "gauge", "Dead letters of a queue.", ("queue",)),
    Metric("pocketwatch_rate_age_seconds", "gauge", "Age of the newest rate of a bank.", ("source",)),
    Metric(
        "pocketwatch_emails_last_day",
        "gauge",
        "Emails requested in the last 24 hours.",
        ("state",),
    ),
    Metric(
        "pocketwatch_watchdog_looked_timestamp_seconds",
        "gauge",
        "When the watchdog last ran its checks; 0 if never.",
    ),
    Metric("pocketwatch_incidents_open", "gauge", "Open incidents of the watchdog.", ("kind",)),
    Metric(
        "pocketwatch_processes",
        "gauge",
        "Processes with a heartbeat in the last 30 seconds.",
        ("kind", "healthy"),
    ),
)
ALL = (*PROCESS, *SUITE)


class Recorder:
    """Counts what happens in this process, and renders it with the figures of the suite."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry  # noqa: PLC0415
        from prometheus_client.process_collector import ProcessCollector  # noqa: PLC0415

        self.registry: CollectorRegistry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self.registry)
        self._instruments = {metric.name: _instrument(metric, self.registry) for metric in PROCESS}
        self._suite = _SuiteCollector()
        self.registry.register(self._suite)

    def count(self, metric: str, *labels: str, by: float = 1.0) -> None:
        self._of(metric, labels).inc(by)

    def observe(self, metric: str, *labels: str, value: float) -> None:
        self._of(metric, labels).observe(value)

    def set(self, metric: str, *labels: str, value: float) -> None:
        self._of(metric, labels).set(value)

    def show(self, figures: Figures) -> None:
        """Replace the figures of the suite."""
        self._suite.figures = figures

    def render(self) -> bytes:
        """Return all series in Prometheus's text format."""
        from prometheus_client import generate_latest  # noqa: PLC0415

        return generate_latest(self.registry)

    def _of(self, metric: str, labels: Sequence[str]) -> Any:
        instrument = self._instruments[metric]
        return instrument.labels(*labels) if labels else instrument


@dataclass(eq=False)
class _SuiteCollector:
    figures: Figures = field(default_factory=dict)

    def collect(self) -> Iterator["Family"]:
        from prometheus_client.metrics_core import GaugeMetricFamily  # noqa: PLC0415

        for metric in SUITE:
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for labels, value in self.figures.get(metric.name, ()):
                family.add_metric(labels, value)
            yield family


def _instrument(metric: Metric, registry: "CollectorRegistry") -> Any:
    from prometheus_client import Counter, Gauge, Histogram  # noqa: PLC0415

    if metric.kind == "histogram":
        return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    return (Counter if metric.kind == "counter" else Gauge)(metric.name, metric.help, metric.labels, registry=registry)


_recorder: Recorder | None = None


@contextmanager
def recording() -> Iterator[Recorder]:
    """Count until the end; a process has one recorder."""
    global _recorder  # noqa: PLW0603  one of the process, like the log
    _recorder = Recorder()
    try:
        yield _recorder
    finally:
        _recorder = None


def recorder() -> Recorder | None:
    """Return what counts in this process; None where nothing is counted."""
    return _recorder


def expect_runs(jobs: Iterable[str]) -> None:
    """Show these jobs from zero, so that their first failure is an increase."""
    for job in jobs:
        for status in COUNTED:
            if _recorder is not None:
                _recorder.count("pocketwatch_runs_total", job, status, by=0.0)


def run_ended(job: str, status: str) -> None:
    if _recorder is not None:
        _recorder.count("pocketwatch_runs_total", job, status)


def run_took(job: str, *, seconds: float) -> None:
    if _recorder is not None:
        _recorder.observe("pocketwatch_run_duration_seconds", job, value=seconds)


def fire_recorded(entry: str, state: str, *, late: float) -> None:
    """Count a fire; `late` is how many seconds after it was due."""
    if _recorder is not None:
        _recorder.count("pocketwatch_fires_total", entry, state)
        _recorder.observe("pocketwatch_fire_lateness_seconds", entry, value=max(late, 0.0))


def outbox_relayed(*, sent: int, failed: int) -> None:
    if _recorder is not None:
        _recorder.count("pocketwatch_outbox_relayed_total", "sent", by=sent)
        _recorder.count("pocketwatch_outbox_relayed_total", "failed", by=failed)
