"""Apply each mutant to a copy of the project, and run its tests: python -m tests.mutants [WORD…]

With words, only mutants that have one of them in their reason or file. The exit code is 1 when a mutant survives.
"""

import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.servers import ROOT, clean_environment, data_folder, running

MUTANTS = Path(__file__).with_name("mutants.toml")
TIMEOUT = 600.0  # seconds; a mutant that hangs is killed by it


@dataclass(frozen=True)
class Mutant:
    """One change that weakens the project.

    Args:
        why: what is wrong then.
        file: below the project's root.
        old, new: a text that is in the file exactly once, and what takes its place.
        tests: one of these must fail.
    """

    why: str
    file: str
    old: str
    new: str
    tests: list[str]

    @contextmanager
    def applied(self, project: Path) -> Iterator[None]:
        """Change the file, for the time of the block."""
        path = project / self.file
        original = path.read_text()
        path.write_text(original.replace(self.old, self.new))
        try:
            yield
        finally:
            path.write_text(original)


def mutants() -> list[Mutant]:
    return [Mutant(**entry) for entry in tomllib.loads(MUTANTS.read_text())["mutant"]]


@contextmanager
def copy() -> Iterator[Path]:
    """A copy of what the repository holds, with the same environment."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, files.split("\0")):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_bytes((ROOT / name).read_bytes())
            (project / name).chmod((ROOT / name).stat().st_mode)
        yield project


def caught_by(mutant: Mutant, project: Path) -> str | None:
    """Return the test that fails; None when all pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests]
    environment = clean_environment(PYTHONPATH=str(project), PYTHONDONTWRITEBYTECODE="1")
    with mutant.applied(project):
        try:
            done = subprocess.run(
                command, cwd=project, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return f"a test that hangs for more than {TIMEOUT:g} s"
    if done.returncode == 0:
        return None
    failed = re.findall(r"^FAILED .*::(\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or not failed:
        raise SystemExit(f"the tests of “{mutant.why}” cannot be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return str(failed[0])


def main() -> int:
    words = sys.argv[1:]
    chosen = [each for each in mutants() if not words or any(word in each.why + each.file for word in words)]
    survivors = []
    with copy() as project, running(data_folder(project, "tests")):  # so that they need not start for each mutant
        for mutant in chosen:
            began = time.monotonic()
            test = caught_by(mutant, project)
            survivors += [mutant] if test is None else []
            mark, how = ("SURVIVES", "") if test is None else ("caught  ", f"by {test}, ")
            sys.stdout.write(f"{mark} {mutant.file}: {mutant.why} ({how}{time.monotonic() - began:.0f} s)\n")
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants are caught\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
