"""The lock files."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def locked(name: str = "") -> list[str]:
    """Return the requirements of a lock file, such as `celery==5.7.0`, each of which has hashes."""
    file = PROJECT / (f"requirements-{name}.lock" if name else "requirements.lock")
    text = file.read_text(encoding="utf-8")
    requirements = re.findall(
        r"^([\w.-]+==[\w.]+)(?: ;.*?)? \\$\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE
    )
    assert len(requirements) == len(re.findall("^\\S", text, re.MULTILINE))
    return requirements
