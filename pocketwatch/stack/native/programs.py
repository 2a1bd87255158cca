"""Find the programs of the servers on this machine, and install those that are missing."""

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pocketwatch.errors import StackError
from pocketwatch.stack.files import tail
from pocketwatch.stack.processes import Launch, launch, run, wait_until_gone

PACKAGES = {
    "rabbitmq": "rabbitmq-server",
    "postgres": "postgresql",
    "redis": "redis-server",
    # for tests
    "pgbouncer": "pgbouncer",
    "faketime": "libfaketime",
}
INSTALL = Path(__file__).with_name("install.sh")
INSTALL_TIMEOUT = 900.0  # seconds


@dataclass(frozen=True)
class Programs:
    """Where programs are searched for: the distribution's own folders first, then PATH."""

    root: Path = Path("/")
    path: str | None = None  # instead of PATH

    def which(self, name: str) -> Path | None:
        found = shutil.which(name, path=self.path)
        return Path(found) if found else None

    def rabbitmq(self) -> Path | None:
        """Return the folder of RabbitMQ's own scripts; those in /usr/sbin switch to another user."""
        own = self.root / "usr/lib/rabbitmq/bin"
        if (own / "rabbitmq-server").exists():
            return own
        found = self.which("rabbitmq-server")
        return found.resolve().parent if found else None

    def postgres(self, version: str | None = None) -> Path | None:
        """Return the folder of PostgreSQL's programs of this major version, or else of the newest installed one."""
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
        return self.which("redis-server") or self.which("valkey-server")

    def pgbouncer(self) -> Path | None:
        own = self.root / "usr/sbin/pgbouncer"  # which is not in the PATH of all users
        return own if own.exists() else self.which("pgbouncer")

    def faketime(self) -> Path | None:
        """Return the library that shows another time to the processes that are started with it."""
        return next(self.root.glob("usr/lib/*/faketime/libfaketime.so.1"), None)

    def missing(self, servers: Iterable[str]) -> list[str]:
        """Return the missing Debian packages of these servers; the mail catcher needs none."""
        found = {
            "rabbitmq": self._rabbitmq_and_epmd,
            "postgres": self.postgres,
            "redis": self.redis,
            "pgbouncer": self.pgbouncer,
            "faketime": self.faketime,
        }
        return [PACKAGES[server] for server in servers if server in found and found[server]() is None]

    def _rabbitmq_and_epmd(self) -> Path | None:
        return self.rabbitmq() if self.which("epmd") else None

    def provide(self, servers: Iterable[str], *, log: Path, echo: Callable[[str], None]) -> None:
        """Install the missing programs of these servers.

        Raises:
            StackError: when they cannot be installed; it names the packages.
        """
        servers = list(servers)
        if not (packages := self.missing(servers)):
            return
        shell = self._privileged_shell()
        if shell is None:
            raise StackError(
                f"programs of the servers are missing and cannot be installed from here; as root: "
                f"apt-get install --no-install-recommends {' '.join(packages)} "
                f"(or start Docker, or set RABBITMQ_URL, DATABASE_URL and REDIS_URL)"
            )
        echo(f"installing {' '.join(packages)} with apt-get, as some programs are missing; this can take two minutes")
        _install(shell, packages, log=log)
        if self.missing(servers):
            raise StackError(f"apt-get could not install {' '.join(packages)}; the end of {log}:\n{tail(log)}")

    def _privileged_shell(self) -> list[str] | None:
        """Return a command that runs a script as root; None without that right, or without apt."""
        if self.which("apt-get") is None:
            return None
        if os.getuid() == 0:
            return ["sh"]
        if (sudo := self.which("sudo")) and run(Launch([str(sudo), "-n", "true"])).returncode == 0:
            return [str(sudo), "-n", "sh"]
        return None


def _install(shell: list[str], packages: list[str], *, log: Path) -> None:
    """Install in a session of its own, so that Ctrl-C does not leave half an installation."""
    # With the caller's environment, as apt-get may need its proxy.
    script = launch(Launch([*shell, str(INSTALL), *packages], environment=None, umask=0o022), log=log)
    if not wait_until_gone([script], timeout=INSTALL_TIMEOUT):
        raise StackError(f"apt-get is still installing {' '.join(packages)}; see {log}, and try again later")
