"""The command line itself: version, help, suggestions, settings of a file, completion."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from console.cli import main
from consumers.app import GROUPS
from tests.fixtures.servers import ROOT, clean_environment
from tests.support.commands import commands, leaves

SHELLS = {
    "bash": "COMP_WORDS",
    "zsh": "_TYPER_COMPLETE_ARGS",
    "fish": "_TYPER_COMPLETE_ARGS",
}


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call the command line in this process, in an empty folder, with these variables only."""
    monkeypatch.chdir(tmp_path)

    def calling(*arguments: str, **variables: str) -> tuple[int, str, str]:
        environment = clean_environment(HOME=str(tmp_path), **variables)
        monkeypatch.setattr(os, "environ", environment)
        monkeypatch.setattr(sys, "argv", ["pocketwatch", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        printed = capsys.readouterr()
        if isinstance(ended.value.code, str):
            return 1, printed.out, printed.err + ended.value.code
        return ended.value.code or 0, printed.out, printed.err

    return calling


COMMANDS = commands()


def test_version_is_shown(call: Call):
    assert call("--version") == (0, f"pocketwatch {version('pocketwatch')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["stat"], "Did you mean 'stack'?"),
        (["schedule", "lst"], "Did you mean 'list'?"),
        (["grants", "--grop", "x"], "--group"),
    ],
)
def test_closest_command_and_option_are_suggested(call: Call, arguments: list[str], suggestion: str):
    code, _, error = call(*arguments)

    assert code == 2
    assert suggestion in error


def test_wrong_usage_cannot_control_the_terminal(call: Call):
    for arguments in (["\x1b[2J[/b]"], ["runs", "--\x1b[2J[/b]"], ["runs", "--limit", "\x1b[2J[/b]"]):
        code, _, error = call(*arguments)

        assert code == 2
        assert "\x1b" not in error


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


def test_settings_are_read_from_a_named_file(call: Call, tmp_path: Path):
    (tmp_path / "site.env").write_text("POCKETWATCH_GRACE=of-the-file\n")
    (tmp_path / "secret").write_text("of-the-secret\n")
    named = ("--env-file", "site.env", "stack", "status")

    by_file = call(*named)
    by_environment = call(*named, POCKETWATCH_GRACE="of-the-environment")
    by_secret = call(*named, POCKETWATCH_GRACE_FILE=str(tmp_path / "secret"))
    missing = call("--env-file", "missing.env", "stack", "status")

    assert 'POCKETWATCH_GRACE is "of-the-file"' in by_file[2]
    assert 'POCKETWATCH_GRACE is "of-the-environment"' in by_environment[2]
    assert 'POCKETWATCH_GRACE is "of-the-secret"' in by_secret[2]
    assert missing[0] == 2
    assert "missing.env" in missing[2]


@pytest.mark.parametrize("name", leaves())
def test_every_command_has_help_with_an_example(call: Call, name: str):
    code, printed, _ = call(*name.split(), "--help")

    assert code == 0
    assert re.search(rf"Example: .*pocketwatch {name}", " ".join(printed.split())), printed


@pytest.mark.parametrize("name", COMMANDS)
def test_arguments_are_named_in_one_style_and_nothing_else_installs_completion(name: str):
    command = COMMANDS[name]

    assert [each.name for each in command.params if each.metavar is not None] == []
    assert [each for each in command.params if "--install-completion" in each.opts] == []


Complete = Callable[..., list[str]]


@pytest.fixture
def complete(call: Call) -> Complete:
    """What the script of a shell asks for, and gets."""

    def completing(shell: str, *words: str) -> list[str]:
        variables = {"_POCKETWATCH_COMPLETE": f"complete_{shell}", SHELLS[shell]: " ".join(["pocketwatch", *words])}
        if shell == "bash":
            variables["COMP_CWORD"] = str(len(words))
        else:
            variables["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
        return call(**variables)[1].splitlines()

    return completing


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_are_completed(complete: Complete, shell: str):
    (line,) = complete(shell, "sch")

    assert "schedule" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trigger", "cleanup.t"], ["cleanup.tokens"]),
        (["consume", ""], list(GROUPS)),
        (["schedule", "pause", "clean-se"], ["clean-sessions-daily"]),
        (["dead", "list", "--queue", "rates.up"], ["rates.update"]),
        (["runs", "list", "--entry", "vac"], ["vacuum-weekly"]),
        (["runs", "list", "--sta"], ["--status"]),
    ],
)
def test_known_values_are_completed(complete: Complete, words: list[str], expected: list[str]):
    assert complete("bash", *words) == expected


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
