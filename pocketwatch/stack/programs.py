"""Programs: where those of the servers are on this machine, and installing what is missing."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pocketwatch.errors import StackError
from pocketwatch.stack.files import last_lines
from pocketwatch.stack.processes import Launch, launch, run, wait_until_gone

PACKAGES = {"rabbitmq": "rabbitmq-server", "postgres": "postgresql", "redis": "redis-server"}
INSTALL = Path(__file__).with_name("install.sh")
INSTALL_PATIENCE = 900.0  # seconds


@dataclass(frozen=True)
class Programs:
    """Where programs are looked for: the distribution's own folders first, then PATH."""

    root: Path = Path("/")
    path: str | None = None  # instead of PATH

    def which(self, name: str) -> Path | None:
        """A program on PATH."""
        found = shutil.which(name, path=self.path)
        return Path(found) if found else None

    def rabbitmq(self) -> Path | None:
        """The folder of RabbitMQ's own scripts; those in /usr/sbin change to another user first."""
        own = self.root / "usr/lib/rabbitmq/bin"
        if (own / "rabbitmq-server").exists():
            return own
        found = self.which("rabbitmq-server")
        return found.resolve().parent if found else None

    def postgres(self, version: str | None = None) -> Path | None:
        """The folder of PostgreSQL's programs: those of one major version, or the newest that is here."""
        installed = {
            bin_folder.parent.name: bin_folder
            for bin_folder in self.root.glob("usr/lib/postgresql/*/bin")
            if (bin_folder / "initdb").exists() and bin_folder.parent.name.isdigit()
        }
        if version in installed:
            return installed[version]
        found = self.which("initdb")
        return installed[max(installed, key=int)] if installed else found and found.resolve().parent

    def redis(self) -> Path | None:
        """The server, or its free successor."""
        return self.which("redis-server") or self.which("valkey-server")

    def missing(self, servers: Iterable[str]) -> list[str]:
        """Debian packages that are needed for these servers and are not here; the mail catcher needs none."""
        found = {"rabbitmq": self._rabbitmq_and_epmd, "postgres": self.postgres, "redis": self.redis}
        return [PACKAGES[server] for server in servers if server in found and found[server]() is None]

    def _rabbitmq_and_epmd(self) -> Path | None:
        return self.rabbitmq() if self.which("epmd") else None

    def provide(self, servers: Iterable[str], *, log: Path, say: Callable[[str], None]) -> None:
        """See to it that the programs of these servers are here.

        Raises:
            StackError: when some are missing and cannot be installed; it says what to install.
        """
        servers = list(servers)
        if not (packages := self.missing(servers)):
            return
        shell = self._privileged_shell()
        if shell is None:
            raise StackError(_how_to_help(packages))
        say(f"installing {' '.join(packages)} with apt-get, as some programs are missing; this can take two minutes")
        _install(shell, packages, log=log)
        if self.missing(servers):
            raise StackError(f"apt-get could not install {' '.join(packages)}; the end of {log}:\n{last_lines(log)}")

    def _privileged_shell(self) -> list[str] | None:
        """How to run a script that installs; None when we may not, or this is no Debian."""
        if self.which("apt-get") is None:
            return None
        if os.getuid() == 0:
            return ["sh"]
        if (sudo := self.which("sudo")) and _succeeds([str(sudo), "-n", "true"]):
            return [str(sudo), "-n", "sh"]
        return None


def _how_to_help(packages: list[str]) -> str:
    return (
        f"programs of the servers are missing and cannot be installed from here; as root: "
        f"apt-get install --no-install-recommends {' '.join(packages)} "
        f"(or start Docker, or set RABBITMQ_URL, DATABASE_URL and REDIS_URL)"
    )


def _succeeds(command: list[str]) -> bool:
    return run(Launch(command)).returncode == 0


def _install(shell: list[str], packages: list[str], *, log: Path) -> None:
    """Not interrupted by Ctrl-C: half an installation would be worse, and the script cleans up at its end."""
    # The caller's environment: apt-get may need its proxy.
    script = launch(Launch([*shell, str(INSTALL), *packages], environment=None), log=log)
    if not wait_until_gone([script], patience=INSTALL_PATIENCE):
        raise StackError(f"apt-get still installs {' '.join(packages)}; see {log}, and try again later")
