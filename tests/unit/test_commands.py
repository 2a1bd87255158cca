"""The command line itself: version, help, suggestions, settings of a file, completion."""

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from console.cli import main
from consumers.app import GROUPS
from publishers import schedule
from schemas.catalogue import TICK_TYPES
from tests.fixtures.servers import ROOT, clean_environment

SHELLS = {
    "bash": "COMP_WORDS",
    "zsh": "_TYPER_COMPLETE_ARGS",
    "fish": "_TYPER_COMPLETE_ARGS",
}


def call(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = clean_environment(PYTHONPATH=str(ROOT), HOME=str(folder), **variables)
    command = [sys.executable, "-m", "pocketwatch", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def commands() -> Iterator[tuple[str, Any]]:
    for name in main.COMMANDS:
        command = main.load(name)
        yield name, command
        yield from ((f"{name} {child}", each) for child, each in getattr(command, "commands", {}).items())


COMMANDS = dict(commands())


def test_version_is_shown(tmp_path: Path):
    done = call(tmp_path, "--version")

    assert (done.returncode, done.stdout) == (0, f"pocketwatch {version('pocketwatch')}\n")


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["stat"], "Did you mean 'stack'?"),
        (["schedule", "lst"], "Did you mean 'list'?"),
        (["grants", "--grop", "x"], "--group"),
    ],
)
def test_closest_command_and_option_are_suggested(tmp_path: Path, arguments: list[str], suggestion: str):
    done = call(tmp_path, *arguments)

    assert done.returncode == 2
    assert suggestion in done.stderr


def test_wrong_usage_cannot_control_the_terminal(tmp_path: Path):
    for arguments in (["\x1b[2J[/b]"], ["runs", "--\x1b[2J[/b]"], ["runs", "--limit", "\x1b[2J[/b]"]):
        done = call(tmp_path, *arguments)

        assert done.returncode == 2
        assert "\x1b" not in done.stderr


def test_help_imports_no_command():
    code = (
        "import sys; from console.cli import main\n"
        "try: main.app(['--help'], prog_name='pocketwatch')\n"
        "except SystemExit: pass\n"
        "print(sorted(n for n in sys.modules if n.startswith(('console.cli.', 'consumers', 'sqlalchemy', 'pydantic'))))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "['console.cli.main']"
    assert all(main.SUMMARIES[name].split()[0] in done.stdout for name in main.COMMANDS)


def test_settings_are_read_from_a_named_file(tmp_path: Path):
    file, elsewhere = tmp_path / "site.env", tmp_path / "elsewhere"
    elsewhere.mkdir()
    file.write_text("POCKETWATCH_SCHEDULE=/of/the/file.toml\nDATABASE_URL=postgresql://file/x\n")

    by_file = call(elsewhere, "--env-file", str(file), "schedule", "list")
    by_environment = call(elsewhere, "--env-file", str(file), "schedule", "list", POCKETWATCH_SCHEDULE="/set.toml")
    missing = call(elsewhere, "--env-file", "missing.env", "schedule", "list")

    assert "/of/the/file.toml" in by_file.stderr
    assert "/set.toml" in by_environment.stderr
    assert missing.returncode == 2
    assert "missing.env" in missing.stderr


def test_file_of_a_secret_in_the_environment_precedes_the_named_file(tmp_path: Path):
    file, secret = tmp_path / "site.env", tmp_path / "secret"
    file.write_text("POCKETWATCH_SCHEDULE=/of/the/file.toml\n")
    secret.write_text("/of/the/secret.toml\n")

    done = call(tmp_path, "--env-file", str(file), "schedule", "list", POCKETWATCH_SCHEDULE_FILE=str(secret))

    assert "/of/the/secret.toml" in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_arguments_are_named_in_one_style_and_nothing_else_installs_completion(name: str):
    command = COMMANDS[name]

    assert [each.name for each in command.params if each.metavar is not None] == []
    assert [each for each in command.params if "--install-completion" in each.opts] == []


def complete(folder: Path, shell: str, *words: str) -> list[str]:
    """What the script of a shell asks for, and gets."""
    variables = {"_POCKETWATCH_COMPLETE": f"complete_{shell}", SHELLS[shell]: " ".join(["pocketwatch", *words])}
    if shell == "bash":
        variables["COMP_CWORD"] = str(len(words))
    else:
        variables["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    return call(folder, **variables).stdout.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_are_completed(tmp_path: Path, shell: str):
    (line,) = complete(tmp_path, shell, "sch")

    assert "schedule" in line


def test_known_values_are_completed(tmp_path: Path):
    assert complete(tmp_path, "bash", "trigger", "cleanup.") == [
        tick.routing_key for tick in TICK_TYPES if tick.routing_key.startswith("cleanup.")
    ]
    assert complete(tmp_path, "bash", "consume", "") == list(GROUPS)
    assert complete(tmp_path, "bash", "schedule", "pause", "clean-s") == [
        entry.name for entry in schedule.load().entries if entry.name.startswith("clean-s")
    ]
    assert complete(tmp_path, "bash", "dead", "list", "--queue", "rates.up") == ["rates.update"]
    assert complete(tmp_path, "bash", "runs", "--sta") == ["--status"]


def test_completion_works_in_bash(tmp_path: Path):
    program = tmp_path / "pocketwatch"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m pocketwatch "$@"\n')
    program.chmod(0o755)
    script = """
        eval "$(pocketwatch --show-completion)"
        COMP_WORDS=(pocketwatch trigger cleanup.to); COMP_CWORD=2
        _pocketwatch_completion pocketwatch
        echo "${COMPREPLY[@]}"
    """
    environment = clean_environment(PYTHONPATH=str(ROOT)) | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert (done.stdout, done.stderr) == ("cleanup.tokens\n", "")


def test_every_command_has_a_summary():
    assert [name for name in main.COMMANDS if name not in main.SUMMARIES] == []
    assert typer.main.get_command(main.app).list_commands(None) == list(main.COMMANDS)  # type: ignore[attr-defined, arg-type]
