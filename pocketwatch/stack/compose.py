"""The same servers in containers: `docker compose` with the project's compose.yaml, a project per folder."""

import os
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pocketwatch.errors import StackError
from pocketwatch.stack import ports, probes
from pocketwatch.stack.files import remove, write_private
from pocketwatch.stack.processes import Launch, run
from pocketwatch.stack.state import State

FILE = "compose.yaml"
DETECTION_TIMEOUT = 5.0  # seconds
TIMEOUT = 900.0  # seconds; images may have to be downloaded
PORTS = {
    "rabbitmq": ("amqp", "management"),
    "postgres": ("postgres",),
    "redis": ("redis",),
    "mail": ("mail", "mailpit"),
}
SERVICES = {"mail": "mailpit"}  # names in the compose file, where they differ
# Variables of the compose file.
PORT_VARIABLES = {
    "amqp": "RABBITMQ_PORT",
    "management": "RABBITMQ_MANAGEMENT_PORT",
    "postgres": "POSTGRES_PORT",
    "redis": "REDIS_PORT",
    "mail": "MAILPIT_SMTP_PORT",
    "mailpit": "MAILPIT_PORT",
}
PASSWORD_VARIABLES = {"rabbitmq": "RABBITMQ_PASSWORD", "postgres": "POSTGRES_PASSWORD", "redis": "REDIS_PASSWORD"}
# Required by a service that is not started; Docker reads the whole file.
UNUSED = "POCKETWATCH_WEB_SECRET_KEY=unused"


@dataclass(frozen=True)
class Docker:
    """The command line program `docker`."""

    program: str = "docker"

    def is_running(self) -> bool:
        """Return whether the engine answers and `docker compose` is installed."""
        return self._succeeds("info") and self._succeeds("compose", "version")

    def _succeeds(self, *arguments: str) -> bool:
        with suppress(OSError, subprocess.TimeoutExpired):
            program = Launch([self.program, *arguments], environment=None, umask=-1)
            return run(program, timeout=DETECTION_TIMEOUT).returncode == 0
        return False


class ComposeBackend:
    """The servers of one folder as a compose project."""

    def __init__(
        self, folder: Path, file: Path, state: State, passwords: Mapping[str, str], *, docker: Docker | None = None
    ) -> None:
        self._folder = folder
        self._file = file
        self._state = state
        self._passwords = passwords
        self._docker = docker or Docker()

    def up(self, names: Collection[str]) -> None:
        """Start these services and wait until their health checks pass.

        Raises:
            StackError: when they do not, with the last lines of Docker's output.
        """
        running = (
            set(self._run("ps", "--services", "--status", "running").split()) if self._variables.exists() else set()
        )
        for name in (name for name in names if _service(name) not in running):
            ports.reassign(self._state.ports, PORTS[name], folder=self._folder)
        self._state.write()
        self._write_variables()
        self._run("up", "--detach", "--wait", *map(_service, names))

    def stop(self, names: Collection[str]) -> None:
        if not self._variables.exists():
            return
        if set(names) >= set(PORTS):
            self._run("down")
        elif names:
            self._run("stop", *map(_service, names))

    def destroy(self) -> None:
        """Remove the containers and their data."""
        if self._variables.exists():
            self._run("down", "--volumes", "--remove-orphans")
        remove(self._variables)

    def is_running(self, name: str) -> bool:
        return all(port in self._state.ports and probes.is_open(self._state.ports[port]) for port in PORTS[name])

    def is_ready(self, name: str) -> bool:
        return self.is_running(name) and probes.is_ready(name, self._state.ports, self._passwords.get(name, ""))

    def pid(self, name: str) -> int | None:  # noqa: ARG002  the signature of every backend
        """Return None: the process belongs to Docker."""
        return None

    @property
    def _variables(self) -> Path:
        return self._folder / "compose.env"

    def _write_variables(self) -> None:
        lines = [f"{variable}={self._passwords[server]}" for server, variable in PASSWORD_VARIABLES.items()]
        lines += [UNUSED]
        lines += [
            f"{variable}={self._state.ports[port]}"
            for port, variable in PORT_VARIABLES.items()
            if port in self._state.ports
        ]
        write_private(self._variables, "\n".join([*lines, ""]))

    def _run(self, *arguments: str) -> str:
        command = [self._docker.program, "compose", "--project-name", f"pocketwatch-{ports.digest(self._folder)}"]
        command += ["--file", str(self._file), "--env-file", str(self._variables), *arguments]
        program = Launch(command, cwd=self._file.parent, environment=self._environment(), umask=-1)
        try:
            done = run(program, timeout=TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise StackError(f"docker compose {arguments[0]} was not done after {TIMEOUT:g} s") from error
        if done.returncode:
            raise StackError(f"docker compose {arguments[0]} failed:\n{_last_lines(done.stderr)}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        """Return the caller's environment (it may say where the engine is) without what overrides the env file."""
        ours = {*PORT_VARIABLES.values(), *PASSWORD_VARIABLES.values()}
        return {
            name: value for name, value in os.environ.items() if name not in ours and not name.startswith("COMPOSE_")
        }


def _service(name: str) -> str:
    return SERVICES.get(name, name)


def _last_lines(text: str, lines: int = 8) -> str:
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-lines:])
