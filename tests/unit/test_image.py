"""The container image."""

import re
import tomllib
from pathlib import Path

from tests.support.locks import locked

PROJECT = Path(__file__).parents[2]


DOCKERFILE = (PROJECT / "Dockerfile").read_text(encoding="utf-8")


def test_every_package_of_the_image_is_installed_by_hash():
    commands = re.findall(r"\bpip (?:\S+ )*?(?:install|wheel) .*", DOCKERFILE)

    downloading = [command for command in commands if "--no-index" not in command]

    assert len(commands) == 4
    assert all("--require-hashes" in command for command in downloading)
    assert all("--no-deps" in command for command in commands if command not in downloading)


def test_build_dependencies_of_the_project_are_locked():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))

    assert set(project["build-system"]["requires"]) <= set(locked("build"))


def test_image_contains_every_package_of_the_wheel():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])

    copied = re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE)
    sent = re.findall(r"^!(\w+)$", (PROJECT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(copied) == packages
    assert packages <= set(sent)
