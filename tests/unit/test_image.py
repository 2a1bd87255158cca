"""The container image."""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_image_contains_every_package_of_the_wheel():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])

    copied = re.findall(r"^COPY (\w+) \1$", (PROJECT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    sent = re.findall(r"^!(\w+)$", (PROJECT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(copied) == packages
    assert packages <= set(sent)
