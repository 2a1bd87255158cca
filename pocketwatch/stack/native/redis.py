"""A private Redis, whose data survive a kill."""

from pocketwatch.stack.files import write_private
from pocketwatch.stack.native.server import Server
from pocketwatch.stack.processes import Launch

# A password among the arguments would show in `ps`. The data folder is the working directory.
SETTINGS = """\
bind 127.0.0.1
port {port}
requirepass {password}
appendonly yes
save ""
"""


class Redis(Server):
    name = "redis"
    ports = ("redis",)
    processes = frozenset({"redis-server", "valkey-server"})

    def prepare(self) -> Launch:
        home = self.make_home()
        settings = SETTINGS.format(port=self.context.ports["redis"], password=self.password)
        write_private(home / "redis.conf", settings)
        return Launch([str(self.require(self.context.programs.redis())), "redis.conf"], cwd=home)
