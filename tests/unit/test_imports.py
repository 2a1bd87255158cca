"""A process imports only what its groups use: each library costs megabytes, and tenths of a second at its start."""

import json
import subprocess
import sys

import pytest

from tests.fixtures.servers import ROOT, clean_environment

UNUSED = (
    "PIL",
    "alembic",
    "console.web",
    "httpx",
    "matplotlib",
    "prometheus_client",
    "publishers",
    "redis",
    "rich",
    "starlette",
)
# All names of Unicode's lookalikes, of which the rules keep a part; a client of the optional classifier; emails.
UNUSED_IN_MODERATION = (
    "aiosmtplib",
    "confusable_homoglyphs.confusables",
    "css_inline",
    "jinja2",
    "jwt",
)
CODE = """
import json, sys
import console.cli.main, console.cli.processes
from consumers.app import services
from pocketwatch.settings import Settings
services(Settings(), sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(("groups", "unused"), [([], UNUSED), (["moderation"], UNUSED + UNUSED_IN_MODERATION)])
def test_consumer_process_imports_nothing_that_its_groups_do_not_use(groups: list[str], unused: tuple[str, ...]):
    command = [sys.executable, "-c", CODE, *groups]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(), capture_output=True, text=True, check=True)

    imported = json.loads(done.stdout)

    assert [name for name in imported if name.startswith(tuple(f"{each}." for each in unused)) or name in unused] == []
    checks = [name for name in imported if name.startswith("consumers.") and "checks" in name.split(".")]
    assert checks == []
