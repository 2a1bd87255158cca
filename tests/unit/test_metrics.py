"""What is counted, how it is named, and that alerts, dashboard and docs speak of metrics that exist."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pocketwatch.monitoring import metrics
from pocketwatch.monitoring.metrics import ALL, PROCESS, SUITE, Metric
from pocketwatch.monitoring.received import received
from pocketwatch.storage import suite_figures

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy/monitoring"
ALERTS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text("utf-8"))["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/pocketwatch.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PAGE = (PROJECT / "docs/monitoring.md").read_text("utf-8")
NAME = re.compile(r"\b(?:pocketwatch|faststream|process)_\w+")
FROM_BROKER = {"pocketwatch_queue_messages", "pocketwatch_queue_consumers", "pocketwatch_dead_letters"}


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("promtool", path=path)
    assert program, "the tests need promtool; install it: make test, or apt-get install prometheus"
    return subprocess.run([program, *arguments], cwd=DEPLOY, capture_output=True, text=True, check=False)


def rendered() -> dict[str, Any]:
    with metrics.recording() as recorder:
        metrics.expect_runs(["cleanup.tokens"])
        metrics.run_ended("cleanup.tokens", "succeeded")
        metrics.run_took("cleanup.tokens", seconds=0.3)
        metrics.fire_recorded("daily", "published", late=-0.1)
        metrics.outbox_relayed(sent=2, failed=1)
        received(["cleanup.tokens"])
        recorder.show({"pocketwatch_dead_letters": [(("cleanup.tokens",), 3.0)]})
        text = recorder.render().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def known() -> set[str]:
    """Every name that a query may use."""
    found: set[str] = set()
    for family in rendered().values():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        found |= {f"{family.name}{suffix}" for suffix in suffixes}
    return found


def value(families: dict[str, Any], name: str, **labels: str) -> float:
    (found,) = (
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    )
    return float(found)


def test_what_happens_is_counted():
    families = rendered()

    assert value(families, "pocketwatch_runs_total", job="cleanup.tokens", status="succeeded") == 1
    assert value(families, "pocketwatch_runs_total", job="cleanup.tokens", status="dead") == 0
    assert value(families, "pocketwatch_run_duration_seconds_bucket", job="cleanup.tokens", le="0.25") == 0
    assert value(families, "pocketwatch_run_duration_seconds_bucket", job="cleanup.tokens", le="1.0") == 1
    assert value(families, "pocketwatch_fires_total", entry="daily", state="published") == 1
    assert value(families, "pocketwatch_fire_lateness_seconds_sum", entry="daily") == 0
    assert value(families, "pocketwatch_outbox_relayed_total", result="failed") == 1
    assert value(families, "pocketwatch_dead_letters", queue="cleanup.tokens") == 3


def test_nothing_is_counted_outside_of_a_recording():
    metrics.run_ended("cleanup.tokens", "succeeded")

    assert metrics.recorder() is None
    assert received(["cleanup.tokens"]) == []


def test_metrics_are_named_by_prometheus_conventions():
    assert len({metric.name for metric in ALL}) == len(ALL)
    for metric in ALL:
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not re.search(r"_(ms|minutes|hours|days|mb|percent)(_|$)", metric.name)
        assert metric.help.endswith(".")
        assert set(metric.labels) <= {
            *("job", "status", "entry", "state", "outcome", "queue", "source"),
            *("kind", "healthy", "version", "result", "metric"),
        }


def test_every_figure_of_the_suite_has_its_query():
    assert {*suite_figures.QUERIES, *FROM_BROKER} == {metric.name for metric in SUITE}


def row(metric: Metric) -> str:
    return f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels) or 'none'} | "


@pytest.mark.parametrize("of", [PROCESS, SUITE], ids=["process", "suite"])
def test_docs_have_the_table_of_metrics(of: tuple[Metric, ...]):
    table = "\n".join(f"{row(metric)}{metric.help} |" for metric in of)

    assert table in PAGE, f"docs/monitoring.md lacks this:\n{table}"


# Alerts


def test_alert_rules_are_valid_and_fire_when_they_should():
    for arguments in (("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml")):
        done = promtool(*arguments)

        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAILED" not in done.stdout


def test_scrape_configuration_is_valid():
    done = promtool("check", "config", "prometheus.yaml")

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    tests = yaml.safe_load((DEPLOY / "alerts_test.yaml").read_text("utf-8"))["tests"]
    looked = [each for test in tests for each in test["alert_rule_test"]]
    names = {rule["alert"] for rule in ALERTS}

    assert {each["alertname"] for each in looked if each.get("exp_alerts")} == names
    assert {each["alertname"] for each in looked if not each.get("exp_alerts")} == names


def test_every_alert_says_what_to_do_and_is_documented():
    for rule in ALERTS:
        assert set(rule["annotations"]) == {"summary", "remedy"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert f"| `{rule['alert']}` | {rule['labels']['severity']} |" in PAGE


def test_alerts_name_metrics_that_exist():
    used = {name for rule in ALERTS for name in NAME.findall(rule["expr"])}

    assert used - known() == set()


# The dashboard


def queries() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


def test_dashboard_names_metrics_that_exist():
    assert {title: names for title, expr in queries() if (names := set(NAME.findall(expr)) - known())} == {}
    assert [title for title, expr in queries() if not NAME.search(expr)] == []


def test_dashboard_shows_every_figure_of_the_suite():
    shown = {name for _, expr in queries() for name in NAME.findall(expr)}

    assert {metric.name for metric in SUITE} - shown == {"pocketwatch_watchdog_looked_timestamp_seconds"}


def test_queries_of_the_dashboard_are_valid(tmp_path: Path):
    exprs = [expr.replace("$__rate_interval", "5m") for _, expr in queries()]
    rules = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")

    done = promtool("check", "rules", "--lint=none", str(file))

    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_have_ids_titles_and_places_of_their_own():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    assert len({panel["title"] for panel in DASHBOARD["panels"]}) == len(ids)
    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    assert [(a, b) for a, b in combinations(places, 2) if overlap(a, b)] == []


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
    return not (beside or below)


def test_dashboard_uses_the_data_source_that_a_user_chooses():
    (variable,) = DASHBOARD["templating"]["list"]

    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
