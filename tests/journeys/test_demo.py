"""`make demo` and `make up` in a fresh clone, on private servers."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketwatch.stack.stack import Stack
from tests.fixtures.servers import ROOT, clean_environment
from tests.support import machine

GENERATED = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs", "bench")
TIMEOUT = 100.0


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A copy of the project without generated files."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT, folder, ignore=GENERATED)
    yield folder
    for made in (folder / ".pocketwatch", folder / ".pocketwatch/demo"):
        Stack(made, echo=lambda _: None).down(wipe=True)


def start(clone: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *options],
        cwd=clone,
        env=clean_environment(DATABASE_URL="postgresql://user@127.0.0.1:1/precious"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def in_another_terminal(clone: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pocketwatch", *command],
        cwd=clone,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_demo_runs_every_job_and_leaves_nothing_running(clone: Path):
    done = start(clone)
    output, _ = done.communicate(timeout=TIMEOUT)

    assert done.returncode == 0, output
    assert "DATABASE_URL is ignored; the demo starts its own servers" in output
    for job, triggers in (
        ("cleanup.tokens", ["manual", "manual", "schedule"]),
        ("cleanup.media", ["celery", "manual", "manual", "schedule"]),
    ):
        rows = [line for line in output.splitlines() if line.startswith("2") and f"  {job} " in line]
        assert [row.count("succeeded") for row in rows] == [1] * len(triggers)
        assert sorted(word for row in rows for word in row.split() if word in triggers) == triggers
    for subject in ("Ваше оголошення №53 схвалено", "Your ad #54 needs changes", "Ваше объявление №55"):
        assert subject in output
    assert "outstanding_deleted=460" in output
    assert "files_deleted=800" in output
    assert machine.processes_of(clone) == []


def test_demo_fails_when_a_job_does_not_do_its_work(clone: Path):
    job = clone / "consumers/cleanup/tokens/tokens.py"
    right, wrong = "timedelta(days=tick.retention_days)", "timedelta(days=3650)"
    assert right in job.read_text()
    job.write_text(job.read_text().replace(right, wrong))

    done = start(clone)
    output, _ = done.communicate(timeout=TIMEOUT)

    assert done.returncode == 1, output
    assert "something went wrong" in output


def test_up_runs_the_suite_until_it_is_stopped(clone: Path):
    prepared = [in_another_terminal(clone, *command) for command in (("stack", "up"), ("migrate",))]
    process = start(clone, "--stay")
    assert process.stdout is not None
    seen = ""
    end = time.monotonic() + TIMEOUT
    while "consumers.started" not in seen or "publishers.started" not in seen:
        line = process.stdout.readline()
        assert line, f"the process ended: {seen}"
        assert time.monotonic() < end, seen
        seen += line
    triggered = in_another_terminal(clone, "trigger", "cleanup.media", "--wait")
    health = in_another_terminal(clone, "doctor", "--json", "--strict")
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)

    assert triggered.returncode == 0, triggered.stdout + triggered.stderr
    assert "files_deleted=800" in triggered.stdout
    assert [done.returncode for done in prepared] == [0, 0]
    assert [each for each in json.loads(health.stdout) if each["result"] != "ok"] == []
    subjects = " ".join(each["subject"] for each in json.loads(health.stdout))
    assert health.returncode == 0
    assert [each for each in ("run on ", "web on ", "watchdog", "schedule in force") if each not in subjects] == []
    assert "POCKETWATCH_" not in (clone / ".pocketwatch/env").read_text()
    assert process.returncode == 0, rest
    assert in_another_terminal(clone, "stack", "down").returncode == 0
    assert machine.processes_of(clone) == []
