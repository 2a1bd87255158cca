"""compose.yaml in containers: `make test-compose`, because it needs a Docker engine, root and minutes."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from consumers.app import GROUPS
from tests.fixtures.servers import ROOT, clean_environment
from tests.support.waiting import eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

NAME = "pocketwatch-test"
NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", ".env", ".pocketwatch", "__pycache__", ".*_cache")
FILE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
# The stand-ins of tests/support/compose_engine.sh lack Grafana.
SERVICES: dict[str, dict[str, Any]] = {
    name: service for name, service in yaml.safe_load(FILE)["services"].items() if "profiles" not in service
}
LONG_RUNNING = [name for name in SERVICES if name != "migrate"]
REPLICAS = {name: SERVICES[name].get("deploy", {"replicas": 1})["replicas"] for name in LONG_RUNNING}
# Free ports, and something for all that must be set.
ENVIRONMENT = dict.fromkeys(re.findall(r"\$\{(\w+_PORT):-", FILE), "0")
ENVIRONMENT |= dict.fromkeys(re.findall(r"\$\{(\w+):\?", FILE), "0123456789abcdef0123456789abcdef")


@dataclass(frozen=True)
class Project:
    """A compose project of its own, in a copy of the checkout."""

    folder: Path

    def compose(self, *words: str, stdin: str = "") -> str:
        command = ["docker", "compose", "--project-name", NAME, *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=clean_environment(**ENVIRONMENT),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def containers(self, service: str) -> list[dict[str, Any]]:
        return inspect(*self.compose("ps", "--all", "--quiet", service).split())

    def pocketwatch(self, *words: str) -> str:
        return self.compose("exec", "-T", "publishers", "pocketwatch", *words)


def inspect(*containers: str) -> list[dict[str, Any]]:
    return json.loads(subprocess.run(["docker", "inspect", *containers], capture_output=True, check=True).stdout)


def left() -> str:
    """The containers, volumes and networks of the project."""
    kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
    label = f"--filter=label=com.docker.compose.project={NAME}"
    commands = (["docker", *kind, "--quiet", label] for kind in kinds)
    return "".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in commands)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """All services, up as the docs say; everything of theirs is gone afterwards."""
    folder = tmp_path_factory.mktemp("containers") / "checkout"
    shutil.copytree(ROOT, folder, ignore=NOT_COPIED)
    project = Project(folder)
    project.compose("down", "--volumes")  # of a run that was killed
    begun = time.monotonic()
    try:
        project.compose("build")
        built = time.monotonic()
        project.compose("up", "--wait", "--wait-timeout", "600")
        healthy = time.monotonic()
        print(f"\nbuilt in {built - begun:.0f} s, all services healthy {healthy - built:.0f} s later")  # noqa: T201
        yield project
    except AssertionError:
        print(project.compose("ps", "--all"), project.compose("logs", "--tail=20", "--no-color"))  # noqa: T201
        raise
    finally:
        project.compose("down", "--volumes", "--remove-orphans")
    assert left() == ""


def test_every_service_is_up(project: Project) -> None:
    (migrate,) = project.containers("migrate")
    health = {name: [one["State"]["Health"]["Status"] for one in project.containers(name)] for name in LONG_RUNNING}

    assert (migrate["State"]["Status"], migrate["State"]["ExitCode"]) == ("exited", 0)
    assert health == {name: ["healthy"] * REPLICAS[name] for name in LONG_RUNNING}


def test_every_process_says_that_it_is_healthy(project: Project) -> None:
    processes = json.loads(project.pocketwatch("processes", "--json"))
    found = [(one["kind"], *one["groups"]) for one in processes if one["state"] == "healthy"]

    assert sorted(found) == sorted([*(("consume", group) for group in GROUPS), *[("publish",)] * 2, ("web",)])


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_main_process_has_the_rights_of_the_file(project: Project, service: str) -> None:
    wanted = SERVICES[service]

    for container in project.containers(service):
        process = Path("/proc", str(container["State"]["Pid"]))
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        (root,) = [line for line in (process / "mountinfo").read_text().splitlines() if line.split()[4] == "/"]
        assert "0" not in status["Uid"].split()
        assert int(status["CapEff"], 16) == 0
        assert (int(status["CapBnd"], 16) == 0) is (wanted.get("cap_drop") == ["ALL"])
        assert status["NoNewPrivs"] == "1"
        assert ("ro" in root.split()[5].split(",")) is wanted.get("read_only", False)


def test_people_can_sign_in_at_the_console(project: Project) -> None:
    name, password = "olena", "correct horse battery staple"
    project.compose("run", "--rm", "-T", "web", "pocketwatch", "web", "user", "add", name, stdin=f"{password}\n")

    address = project.compose("port", "web", "8080").strip()
    with httpx.Client(base_url=f"http://{address}", follow_redirects=True, trust_env=False, timeout=60) as browser:
        form = browser.get("/runs")
        token = form.text.partition('name="csrf_token" value="')[2].partition('"')[0]
        page = browser.post("/sign-in", data={"csrf_token": token, "name": name, "password": password, "next": "/runs"})

    assert (form.url.path, page.url.path, page.status_code) == ("/sign-in", "/runs", 200)


def test_clean_up_deletes_in_its_volumes(project: Project) -> None:
    old = "touch -d '90 days ago' /srv/logs/app.log.2 && touch -d '80 days ago' /srv/logs/app.log.1"
    project.compose("exec", "-T", "consumer-cleanup", "sh", "-c", old)

    project.pocketwatch("trigger", "cleanup.log_files", "--wait", "--timeout", "60s")

    assert project.compose("exec", "-T", "consumer-cleanup", "ls", "/srv/logs").split() == ["app.log.1"]


def test_dev_stack_uses_docker(project: Project, tmp_path: Path) -> None:
    def stack(*words: str) -> str:
        command = [sys.executable, "-m", "pocketwatch", "stack", *words, f"--folder={tmp_path}"]
        environment = clean_environment()
        return subprocess.run(
            command, cwd=project.folder, env=environment, capture_output=True, text=True, check=True
        ).stdout

    stack("up")
    try:
        servers = {one["name"]: (one["source"], one["ready"]) for one in json.loads(stack("status", "--json"))}
    finally:
        stack("down", "--wipe")
    assert servers == dict.fromkeys(["rabbitmq", "postgres", "redis", "mail"], ("docker", True))


@pytest.mark.parametrize("service", ["consumer-maintenance", "rabbitmq", "postgres", "redis", "publishers"])
async def test_killed_service_starts_again(project: Project, service: str) -> None:
    before, *_ = project.containers(service)
    others = {
        name: [one["RestartCount"] for one in project.containers(name)] for name in LONG_RUNNING if name != service
    }
    begun = time.monotonic()

    # Not by `docker kill`, which counts as stopped on purpose.
    os.kill(before["State"]["Pid"], signal.SIGKILL)

    async def healthy_again() -> bool:
        (now,) = inspect(before["Id"])
        return now["RestartCount"] == before["RestartCount"] + 1 and now["State"]["Health"]["Status"] == "healthy"

    await eventually(healthy_again, within=120)
    back = time.monotonic()
    run = project.pocketwatch("trigger", "maintenance.purge_logs", "--wait", "--timeout", "120s")
    print(  # noqa: T201
        f"\n{service}: killed, healthy again after {back - begun:.0f} s, a run {time.monotonic() - back:.0f} s later"
    )
    assert "succeeded" in run
    assert others == {name: [one["RestartCount"] for one in project.containers(name)] for name in others}
