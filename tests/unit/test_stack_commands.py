"""`pocketwatch stack`, without starting a server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console.cli.stack import app
from pocketwatch.errors import StackError
from pocketwatch.stack.state import Identity
from tests.support.greeter import greeter
from tests.support.machine import listener

NAMES = ("RABBITMQ_URL", "DATABASE_URL", "REDIS_URL")


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    for name in (*NAMES, "SMTP_URL", "RABBITMQ_MANAGEMENT_URL"):
        monkeypatch.delenv(name, raising=False)
    return CliRunner()


@pytest.fixture
def external(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    with listener() as port, greeter() as mail:
        for name, scheme in zip(NAMES, ("amqp", "postgresql", "redis"), strict=True):
            monkeypatch.setenv(name, f"{scheme}://user:secret@127.0.0.1:{port}/1")
        monkeypatch.setenv("SMTP_URL", f"smtp+starttls://user:secret@127.0.0.1:{mail}")
        yield [port, port, port, mail]


def test_status_exits_0_when_every_server_is_ready(command_line: CliRunner, external: list[int]) -> None:
    result = command_line.invoke(app, ["status", "--json"])

    assert result.exit_code == 0
    assert [server["address"] for server in json.loads(result.stdout)] == [f"127.0.0.1:{port}" for port in external]
    assert "secret" not in result.stdout


def test_status_exits_1_when_a_server_is_not_ready(command_line: CliRunner) -> None:
    result = command_line.invoke(app, ["status"])

    assert result.exit_code == 1
    assert "not running" in result.stdout


def test_urls_of_a_dotenv_file_are_external_servers(command_line: CliRunner, tmp_path: Path) -> None:
    with listener() as port:
        (tmp_path / ".env").write_text(f"REDIS_URL=redis://127.0.0.1:{port}/0\n")

        result = command_line.invoke(app, ["status", "--json"])

    redis = json.loads(result.stdout)[2]
    assert (redis["source"], redis["ready"]) == ("external", True)


def test_servers_of_another_stack_are_not_external(command_line: CliRunner, tmp_path: Path) -> None:
    (tmp_path / ".pocketwatch").mkdir()
    (tmp_path / ".pocketwatch/env").write_text("REDIS_URL=redis://:secret@127.0.0.1:1/0\n")

    result = command_line.invoke(app, ["status", "--json", "--folder", "another"])

    assert json.loads(result.stdout)[2]["source"] != "external"


def test_env_prints_only_settings(command_line: CliRunner, external: list[int]) -> None:
    result = command_line.invoke(app, ["env"])

    assert result.stdout.splitlines()[2] == f"REDIS_URL=redis://user:secret@127.0.0.1:{external[2]}/1"
    assert all("=" in line for line in result.stdout.splitlines())


def test_env_fails_when_servers_are_down(command_line: CliRunner) -> None:
    result = command_line.invoke(app, ["env"])

    assert isinstance(result.exception, StackError)
    assert result.stdout == ""


def test_cluster_cannot_be_external(command_line: CliRunner, external: list[int]) -> None:
    result = command_line.invoke(app, ["up", "--nodes", "3"])

    assert isinstance(result.exception, StackError)
    assert "RABBITMQ_URL" in str(result.exception)


def test_cluster_does_not_shrink(command_line: CliRunner, tmp_path: Path) -> None:
    Identity.new(tmp_path, compose=None, nodes=3).write(tmp_path)

    result = command_line.invoke(app, ["up", "--nodes", "1", "--folder", str(tmp_path)])

    assert isinstance(result.exception, StackError)
    assert "of 3 nodes, not 1; omit --nodes" in str(result.exception)


def test_status_shows_each_node_of_a_cluster(command_line: CliRunner, tmp_path: Path) -> None:
    Identity.new(tmp_path, compose=None, nodes=3).write(tmp_path)

    result = command_line.invoke(app, ["status", "--json", "--folder", str(tmp_path)])

    names = [server["name"] for server in json.loads(result.stdout)]
    assert names == ["rabbitmq", "rabbitmq2", "rabbitmq3", "postgres", "redis", "mail"]


def test_down_without_servers_does_nothing(command_line: CliRunner, tmp_path: Path) -> None:
    result = command_line.invoke(app, ["down", "--wipe"])

    assert result.exit_code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [[], ["--wipe"]])
def test_down_refuses_a_folder_that_is_not_a_stack(options: list[str], command_line: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "project/mail").mkdir(parents=True)
    note, log = tmp_path / "project/mail/note.txt", tmp_path / "project/redis.log"
    for file in (note, log):
        file.touch()

    result = command_line.invoke(app, ["down", "--folder", "project", *options])

    assert isinstance(result.exception, StackError)
    assert "mail, redis.log in it belong to another program" in str(result.exception)
    assert note.exists()
    assert log.exists()


def test_down_keeps_the_data_of_a_stack_without_lock_file(command_line: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "stack/redis").mkdir(parents=True)
    Identity.new(tmp_path / "stack", compose=None).write(tmp_path / "stack")

    result = command_line.invoke(app, ["down", "--folder", "stack"])

    assert result.exit_code == 0
    assert (tmp_path / "stack/redis").exists()


@pytest.mark.parametrize("command", ["up", "down", "status", "env"])
def test_help_of_every_command_has_an_example(command: str, command_line: CliRunner) -> None:
    result = command_line.invoke(app, [command, "--help"])

    assert f"pocketwatch stack {command}" in result.stdout
    assert "Example:" in result.stdout
