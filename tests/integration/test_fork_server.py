"""Programs of tests are forked, unless what Python or a terminal reads at the start of a process differs."""

import pytest

from tests.fixtures.suite import Program
from tests.support.fork_server import Forked, fork_server


@pytest.mark.parametrize("changes", [{}, {"POCKETWATCH_LOG_FORMAT": "console", "DATABASE_URL": "postgresql://h/x"}])
def test_programs_are_forked(pocketwatch: Program, changes: dict[str, str]):
    assert fork_server().can_start(pocketwatch.environment | changes)


@pytest.mark.parametrize("changes", [{"COLUMNS": "40"}, {"LC_ALL": "C"}, {"PYTHONPATH": "/elsewhere"}])
def test_programs_that_read_another_environment_at_their_start_are_not(pocketwatch: Program, changes: dict[str, str]):
    assert not fork_server().can_start(pocketwatch.environment | changes)


def test_forked_program_has_its_own_arguments_output_and_exit_code(pocketwatch: Program):
    wrong = pocketwatch("nonsense")
    process = pocketwatch.start("consume", POCKETWATCH_LOG_FORMAT="json", DATABASE_URL="postgresql://127.0.0.1:1/x")

    assert isinstance(process.popen, Forked)
    assert process.popen.poll() is None
    process.kill()
    assert process.popen.returncode == -9
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "No such command 'nonsense'" in wrong.stderr
