"""The benches work, at small sizes: each compares its contenders' work before it says how long it took."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pocketwatch.stack.stack import Stack
from tests.fixtures.servers import ROOT, clean_environment

MADE_HERE = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs")
TIMEOUT = 280.0


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A copy of the tree, so that a bench that runs in this one is not disturbed."""
    folder = tmp_path / "clone"
    shutil.copytree(ROOT, folder, ignore=MADE_HERE)
    yield folder
    Stack(folder / ".pocketwatch/bench", echo=lambda _: None).down(wipe=True)


@pytest.mark.timeout(300)
def test_benches_check_the_work_of_every_contender(clone: Path):
    done = subprocess.run(
        [sys.executable, "-m", "bench", "media", "analytics", "platform", "console", "--quick"],
        cwd=clone,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("x best peer") == 3
    assert done.stdout.count("figures equal in every run") == 2
    assert "pocketwatch migrate from" in done.stdout
