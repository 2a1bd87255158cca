"""deploy/kubernetes: valid for Kubernetes, complete, and as careful as compose.yaml."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from consumers.app import GROUPS, consumers_of
from pocketwatch import settings
from pocketwatch.clock import parse_duration

PROJECT = Path(__file__).parents[2]
FOLDER = PROJECT / "deploy/kubernetes"
FILES = sorted(file.name for file in FOLDER.iterdir())
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text("utf-8"))
RESOURCES: list[dict[str, Any]] = [
    document
    for file in FILES
    if file != "kustomization.yaml"
    for document in yaml.safe_load_all((FOLDER / file).read_text("utf-8"))
]
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text("utf-8"))
EXTENSIONS = {"monitoring.coreos.com/v1", "keda.sh/v1alpha1"}  # whose schemas Kubernetes does not have
NAME = "app.kubernetes.io/name"


def of(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in RESOURCES if each["kind"] == kind}


DEPLOYMENTS, WORKLOADS = of("Deployment"), of("Deployment") | of("Job")


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(workload)["containers"]
    return dict(found)


def events_of(group: str) -> set[str]:
    return {each.queue.name for each in consumers_of([group]) if not each.queue.single_active}


@pytest.mark.parametrize(
    "resource",
    [each for each in RESOURCES if each["apiVersion"] not in EXTENSIONS],
    ids=lambda each: f"{each['kind']} {each['metadata']['name']}",
)
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_resource_is_valid_with_no_unknown_field(resource: dict[str, Any], version: str):
    kubernetes_validate.validate(resource, version, strict=True)


def test_kustomization_lists_every_file_once():
    assert set(KUSTOMIZATION) == {"apiVersion", "kind", "resources", "images"}
    assert sorted(KUSTOMIZATION["resources"]) == [file for file in FILES if file != "kustomization.yaml"]
    (image,) = KUSTOMIZATION["images"]
    assert {container(each)["image"] for each in WORKLOADS.values()} == {image["name"]}
    assert COMPOSE["x-process"]["image"] == f"{image['name']}:{image['newTag']}"


def test_no_resource_is_there_twice_or_in_a_namespace_of_its_own():
    names = [(each["kind"], each["metadata"]["name"]) for each in RESOURCES]

    assert len(set(names)) == len(names)
    assert not any("namespace" in each["metadata"] for each in RESOURCES)


def test_every_process_of_the_suite_has_its_workload():
    commands = {name: container(each)["args"] for name, each in WORKLOADS.items()}
    groups = {f"pocketwatch-consumer-{group}": ["pocketwatch", "consume", group] for group in GROUPS}

    assert commands == {
        **groups,
        "pocketwatch-publishers": ["pocketwatch", "publish"],
        "pocketwatch-web": COMPOSE["services"]["web"]["command"],
        "pocketwatch-migrate": ["pocketwatch", "migrate"],
    }


def test_two_publishers_run_on_two_nodes():
    publishers = DEPLOYMENTS["pocketwatch-publishers"]

    assert publishers["spec"]["replicas"] == 2
    assert pod(publishers)["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"


def test_every_setting_is_known():
    inline = [each["name"] for workload in WORKLOADS.values() for each in container(workload).get("env", [])]
    (config,) = of("ConfigMap").values()

    assert {*config["data"], *inline} - set(settings.names()) == set()
    settings.load(config["data"], folder=FOLDER)


@pytest.mark.parametrize("name", WORKLOADS)
def test_pod_may_do_as_little_as_in_compose(name: str):
    workload = WORKLOADS[name]
    security, own = pod(workload)["securityContext"], container(workload)["securityContext"]

    assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10001)
    assert "--uid 10001" in (PROJECT / "Dockerfile").read_text("utf-8")
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": COMPOSE["x-process"]["read_only"],
        "capabilities": {"drop": COMPOSE["x-process"]["cap_drop"]},
    }
    assert pod(workload)["automountServiceAccountToken"] is False
    assert "tmp" in {each["name"] for each in container(workload)["volumeMounts"]}


@pytest.mark.parametrize("name", WORKLOADS)
def test_secrets_are_named_and_not_contained(name: str):
    assert container(WORKLOADS[name])["envFrom"] == [
        {"configMapRef": {"name": "pocketwatch"}},
        {"secretRef": {"name": "pocketwatch"}},
    ]
    assert not of("Secret")
    assert not re.search(r"://[^\s@/]+:[^\s@/]+@", (FOLDER / "config.yaml").read_text("utf-8"))


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_probes_ask_the_port_of_the_settings(name: str):
    own = container(DEPLOYMENTS[name])
    (config,) = of("ConfigMap").values()
    ports = {each["name"]: each["containerPort"] for each in own["ports"]}

    assert config["data"]["POCKETWATCH_HTTP"] == f"0.0.0.0:{ports['metrics']}"
    probes = {kind: own[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {each["port"] for each in probes.values()} == {"metrics"}
    assert [each["path"] for each in probes.values()] == ["/health/live", "/health/live", "/health/ready"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_processes_have_time_to_finish_messages_in_flight(name: str):
    (config,) = of("ConfigMap").values()
    time = timedelta(seconds=pod(DEPLOYMENTS[name])["terminationGracePeriodSeconds"])

    assert time > parse_duration(config["data"]["POCKETWATCH_GRACE"]) + timedelta(seconds=10)


def test_pods_differ_only_in_what_they_do():
    varying = ("args", "env", "ports", "volumeMounts")
    alike = [
        {key: value for key, value in container(each).items() if key not in varying} for each in DEPLOYMENTS.values()
    ]

    assert all(each == alike[0] for each in alike)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_labels_select_the_pods_of_one_deployment(name: str):
    spec, labels = DEPLOYMENTS[name]["spec"], DEPLOYMENTS[name]["metadata"]["labels"]

    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"] == labels
    assert labels == {NAME: "pocketwatch", "app.kubernetes.io/component": name.removeprefix("pocketwatch-")}


def test_exactly_the_consumer_of_cleanup_has_the_folder_to_clean():
    mounted = {name: [each["name"] for each in container(each)["volumeMounts"]] for name, each in DEPLOYMENTS.items()}

    assert [name for name, volumes in mounted.items() if volumes != ["tmp"]] == ["pocketwatch-consumer-cleanup"]


def test_budgets_select_what_has_several_replicas():
    selected = {
        each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        for each in of("PodDisruptionBudget").values()
    }

    assert selected == {"publishers", *(f"consumer-{group}" for group in GROUPS if events_of(group))}


# What the schemas of Kubernetes do not have


def test_pod_monitor_scrapes_every_process():
    (monitor,) = of("PodMonitor").values()
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]

    assert set(monitor["spec"]) == {"selector", "podMetricsEndpoints"}
    assert monitor["spec"]["selector"] == {"matchLabels": {NAME: "pocketwatch"}}
    assert endpoint == {"port": "metrics", "path": "/metrics", "interval": "15s", "honorLabels": True}
    for each in DEPLOYMENTS.values():
        assert each["metadata"]["labels"][NAME] == "pocketwatch"


def test_groups_of_events_are_scaled_by_their_queues_and_no_job_is():
    scaled = {each["spec"]["scaleTargetRef"]["name"]: each for each in of("ScaledObject").values()}

    assert set(scaled) == {f"pocketwatch-consumer-{group}" for group in GROUPS if events_of(group)}
    for name, each in scaled.items():
        triggers = each["spec"]["triggers"]
        assert each["metadata"]["name"] == name
        assert {trigger["metadata"]["queueName"] for trigger in triggers} == events_of(name.rpartition("-")[2])
        # KEDA sets the number; one in the deployment would set it back each time it is applied.
        assert "replicas" not in DEPLOYMENTS[name]["spec"]


@pytest.mark.parametrize("name", of("ScaledObject"))
def test_scaled_object_has_the_fields_of_keda(name: str):
    spec = of("ScaledObject")[name]["spec"]

    assert set(spec) == {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "cooldownPeriod", "triggers"}
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    for trigger in spec["triggers"]:
        assert set(trigger) == {"type", "metadata"}
        assert trigger["type"] == "rabbitmq"
        assert trigger["metadata"] == {
            "protocol": "amqp",
            "queueName": trigger["metadata"]["queueName"],
            "mode": "QueueLength",
            "value": "500",  # KEDA takes texts only
            "hostFromEnv": "RABBITMQ_URL",
        }
