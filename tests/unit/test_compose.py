"""compose.yaml, its image, and the Docker backend of the stack; a script replaces the program `docker`."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from console.cli.main import app
from consumers.app import GROUPS
from pocketwatch.errors import StackError
from pocketwatch.stack import compose, ports
from pocketwatch.stack.compose import ComposeBackend, Docker
from pocketwatch.stack.native.programs import Programs
from pocketwatch.stack.servers import SERVERS
from pocketwatch.stack.stack import Stack
from pocketwatch.stack.state import State
from tests.support.machine import listener

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "compose.yaml").read_text(encoding="utf-8")
FILE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
LONG_RUNNING = {name: service for name, service in SERVICES.items() if service["restart"] != "no"}
VARIABLES = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
EXACT = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.]+)?")
SECRETS = {"RABBITMQ_PASSWORD", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "POCKETWATCH_WEB_SECRET_KEY"}


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_the_file_follows_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]

    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_has_an_exact_version(name: str) -> None:
    assert EXACT.fullmatch(SERVICES[name]["image"])


def test_the_images_python_has_an_exact_version() -> None:
    text = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    default = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)

    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON_IMAGE}"}
    assert default
    # Of 3.13, which still gets fixes of bugs.
    assert re.fullmatch(r"python:3\.13\.\d+-slim-trixie", default[1])


def test_the_images_python_can_be_pinned_by_digest() -> None:
    assert all(service["build"]["args"] == ["PYTHON_IMAGE"] for service in OURS.values())


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_long_running_service_has_a_health_check_and_starts_again(name: str) -> None:
    service = LONG_RUNNING[name]

    assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_every_port_is_published_on_this_machine_only(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_can_gain_privileges(name: str) -> None:
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OURS)
def test_our_processes_run_in_one_image_that_they_cannot_write_to(name: str) -> None:
    assert OURS[name]["image"] == OURS["migrate"]["image"]
    assert OURS[name]["read_only"] is True


def test_exactly_the_consumer_of_cleanup_has_the_folders_to_clean() -> None:
    roots = {name: value for name, value in FILE["x-environment"].items() if name.endswith("_ROOT")}
    mounted = {name: [volume.split(":")[1] for volume in service.get("volumes", [])] for name, service in OURS.items()}

    assert len(roots) == 3
    assert sorted(mounted.pop("consumer-cleanup")) == sorted(roots.values())
    assert not any(mounted.values())


@pytest.mark.parametrize("name", OURS)
def test_processes_have_time_to_finish_messages_in_flight(name: str) -> None:
    assert seconds(OURS[name]["stop_grace_period"]) > seconds(OURS[name]["environment"]["POCKETWATCH_GRACE"])


@pytest.mark.parametrize("name", OURS)
def test_services_run_commands_of_the_suite(name: str) -> None:
    program, *words = OURS[name]["command"]

    result = CliRunner().invoke(app, [*words, "--help"])

    assert program == "pocketwatch"
    assert result.exit_code == 0, result.output
    assert words[0] != "consume" or all((PROJECT / "consumers" / group).is_dir() for group in words[1:])


def test_every_group_is_consumed_by_one_service() -> None:
    commands = [service["command"] for service in OURS.values()]
    consumed = [group for command in commands if command[1] == "consume" for group in command[2:] or GROUPS]

    assert sorted(consumed) == sorted(GROUPS), "give the group a service of compose.yaml: pocketwatch consume GROUP"


def test_two_publishers_run() -> None:
    assert SERVICES["publishers"]["deploy"] == {"replicas": 2}
    assert "ports" not in SERVICES["publishers"]  # one port of the machine would be taken by both


def test_prometheus_asks_every_process_on_its_port() -> None:
    config = yaml.safe_load((PROJECT / "deploy/monitoring/prometheus.yaml").read_text(encoding="utf-8"))
    (scrape,) = config["scrape_configs"]
    (targets,) = scrape["dns_sd_configs"]

    assert sorted(targets["names"]) == sorted(OURS.keys() - {"migrate"})
    assert {service["environment"]["POCKETWATCH_HTTP"] for service in OURS.values()} == {f"0.0.0.0:{targets['port']}"}
    # The label `job` of the suite's metrics stays.
    assert scrape["honor_labels"] is True


def test_monitoring_starts_only_when_it_is_asked_for() -> None:
    with_profile = {name for name, service in SERVICES.items() if "profiles" in service}

    assert with_profile == {"prometheus", "grafana"}
    for name in with_profile:
        assert SERVICES[name]["profiles"] == ["monitoring"]
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_of_the_project_exist(name: str) -> None:
    mounted = [volume.split(":") for volume in SERVICES[name].get("volumes", []) if volume.startswith("./")]

    assert all((PROJECT / source).exists() and options == ["ro"] for source, _, *options in mounted)


@pytest.mark.parametrize("variable", sorted(VARIABLES))
def test_every_variable_is_documented(variable: str) -> None:
    assert re.search(rf"^#? ?{variable}=", (PROJECT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)


def test_no_secret_has_a_default() -> None:
    assert set(re.findall(r"\$\{(\w+):\?[^}]+\}", TEXT)) == SECRETS
    assert not re.findall(r"\$\{\w+(?:PASSWORD|KEY):?-", TEXT)


def test_the_heartbeat_is_healthy_for_one_minute(tmp_path: Path) -> None:
    beat = tmp_path / "heartbeat"
    check = OURS["publishers"]["healthcheck"]["test"][1].replace("$$", "$")

    def code() -> int:
        command = ["sh", "-c", check]
        return subprocess.run(
            command, env={"POCKETWATCH_HEARTBEAT_FILE": str(beat), "PATH": "/usr/bin:/bin"}, check=False
        ).returncode

    missing = code()
    beat.touch()
    fresh = code()
    subprocess.run(["touch", "-d", "2 minutes ago", beat], check=True)

    assert (missing, fresh, code()) == (1, 0, 1)


FAKE = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/calls"
[ -z "$POSTGRES_PASSWORD" ] || echo "the caller's password is passed on" >>"$(dirname "$0")/calls"
case "$*" in *broken*) echo "no space left" >&2; exit 1;; *"ps --services"*) echo redis;; esac
"""


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    program = tmp_path / "docker"
    program.write_text(FAKE)
    program.chmod(0o755)
    return Docker(str(program))


def calls(docker: Docker) -> list[str]:
    return Path(docker.program).with_name("calls").read_text().splitlines()


@pytest.fixture
def servers(tmp_path: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> ComposeBackend:
    monkeypatch.setenv("POSTGRES_PASSWORD", "the caller's")
    passwords = {"rabbitmq": "one", "postgres": "two", "redis": "three"}
    return ComposeBackend(tmp_path, PROJECT / "compose.yaml", State.read(tmp_path), passwords, docker=docker)


def test_up_starts_the_services_and_waits_for_them(servers: ComposeBackend, docker: Docker, tmp_path: Path) -> None:
    servers.up([*SERVERS])

    project = f"pocketwatch-{ports.digest(tmp_path)}"
    expected = f"compose --project-name {project} --file {PROJECT}/compose.yaml --env-file {tmp_path}/compose.env"
    assert calls(docker) == [f"{expected} up --detach --wait rabbitmq postgres redis mailpit"]


def test_env_file_is_private_and_sets_the_variables_of_the_compose_file(
    servers: ComposeBackend, tmp_path: Path
) -> None:
    servers.up([*SERVERS])

    file = tmp_path / "compose.env"
    names = {line.partition("=")[0] for line in file.read_text().splitlines()}
    assert file.stat().st_mode & 0o777 == 0o600
    assert SECRETS <= names <= VARIABLES
    published = str([SERVICES[service].get("ports") for service in ("rabbitmq", "postgres", "redis", "mailpit")])
    assert set(re.findall(r"\w+_PORT", published)) <= names


def test_second_up_keeps_the_port_of_a_running_service(servers: ComposeBackend, tmp_path: Path) -> None:
    servers.up(["redis"])
    before = State.read(tmp_path).ports

    with listener(before["redis"]):
        servers.up(["redis"])

    assert State.read(tmp_path).ports == before


def test_second_up_keeps_the_ports_of_a_running_mail_catcher(
    servers: ComposeBackend, docker: Docker, tmp_path: Path
) -> None:
    servers.up(["mail"])
    before = State.read(tmp_path).ports
    Path(docker.program).write_text(FAKE.replace("echo redis", "echo mailpit"))

    with listener(before["mail"]):
        servers.up(["mail"])

    assert State.read(tmp_path).ports == before


def test_mailpit_is_the_mail_server_in_docker(servers: ComposeBackend, docker: Docker, tmp_path: Path) -> None:
    servers.up(["mail"])
    ports = State.read(tmp_path).ports

    servers.stop(["mail"])

    service = SERVICES["mailpit"]["ports"]
    assert service == ["127.0.0.1:${MAILPIT_SMTP_PORT:-1025}:1025", "127.0.0.1:${MAILPIT_PORT:-8025}:8025"]
    variables = (tmp_path / "compose.env").read_text().splitlines()
    assert {f"MAILPIT_SMTP_PORT={ports['mail']}", f"MAILPIT_PORT={ports['mailpit']}"} <= set(variables)
    assert calls(docker)[-1].endswith("stop mailpit")
    assert (servers.is_running("mail"), servers.is_ready("mail"), servers.pid("mail")) == (False, False, None)


def test_emails_go_to_mailpit_unless_smtp_url_is_set() -> None:
    assert {service["environment"]["SMTP_URL"] for service in OURS.values()} == {"${SMTP_URL:-smtp://mailpit:1025}"}


def test_mailpit_is_named_as_the_other_mail_server(
    tmp_path: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compose.yaml").touch()
    monkeypatch.chdir(tmp_path)
    stack = Stack(tmp_path / "stack", docker=docker, echo=lambda _: None)

    urls = stack.up()

    ports = State.read(stack.folder).ports
    assert urls["SMTP_URL"] == f"smtp://127.0.0.1:{ports['mail']}"
    assert stack.other_mail_server() == f"Mailpit, http://127.0.0.1:{ports['mailpit']}"


def test_down_removes_the_containers_and_wipe_deletes_their_data(
    servers: ComposeBackend, docker: Docker, tmp_path: Path
) -> None:
    servers.up(["redis"])

    servers.stop(SERVERS)
    servers.destroy()

    assert [call.partition("compose.env ")[2] for call in calls(docker)[-2:]] == [
        "down",
        "down --volumes --remove-orphans",
    ]
    assert not (tmp_path / "compose.env").exists()


def test_error_contains_the_output_of_docker(servers: ComposeBackend) -> None:
    servers.up(["redis"])

    with pytest.raises(StackError, match=r"docker compose stop failed:\n  no space left"):
        servers.stop(["broken"])


def test_containers_do_not_make_a_cluster(tmp_path: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compose.yaml").touch()
    monkeypatch.chdir(tmp_path)
    Stack(tmp_path / "stack", docker=docker, echo=lambda _: None).up()

    with pytest.raises(StackError, match=r"in Docker, which runs one node, not 3; .*--folder"):
        Stack(tmp_path / "stack", docker=docker, echo=lambda _: None, nodes=3).up()


def test_private_instances_are_used_when_docker_fails(
    tmp_path: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(docker.program).write_text(FAKE.replace("broken", "--wait"))
    (tmp_path / "compose.yaml").touch()
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    nowhere = Programs(root=tmp_path / "empty", path="")

    with pytest.raises(StackError, match="programs of the servers are missing"):
        Stack(tmp_path / "stack", docker=docker, echo=lines.append, programs=nowhere).up()

    assert "no space left\nso private instances are used instead" in lines[0]
    assert calls(docker)[-1].endswith("down --volumes --remove-orphans")


def test_private_instances_are_used_when_docker_times_out(
    tmp_path: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(docker.program).write_text(
        FAKE.replace('*broken*) echo "no space left" >&2; exit 1', "*--wait*) exec sleep 30")
    )
    (tmp_path / "compose.yaml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compose, "TIMEOUT", 0.5)
    lines: list[str] = []
    nowhere = Programs(root=tmp_path / "empty", path="")

    with pytest.raises(StackError, match="programs of the servers are missing"):
        Stack(tmp_path / "stack", docker=docker, echo=lines.append, programs=nowhere).up()

    assert lines[0] == "docker compose up was not done after 0.5 s\nso private instances are used instead"


def test_slow_docker_engine_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "docker"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setattr(compose, "DETECTION_TIMEOUT", 0.2)

    assert not Docker(str(slow)).is_running()
    assert not Docker(str(tmp_path / "nothing")).is_running()


def test_data_in_docker_are_not_replaced_by_private_instances(
    tmp_path: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compose.yaml").touch()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "stack"
    Stack(folder, docker=docker, echo=lambda _: None).up()

    with pytest.raises(StackError, match="are in Docker, which does not run"):
        Stack(folder, docker=Docker(str(tmp_path / "nothing")), echo=lambda _: None).up()
