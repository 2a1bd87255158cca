"""A private RabbitMQ node."""

import secrets
import subprocess
from contextlib import suppress
from pathlib import Path

from pocketwatch.stack.files import write_private
from pocketwatch.stack.native.server import Server
from pocketwatch.stack.ports import TOOLS
from pocketwatch.stack.probes import is_open
from pocketwatch.stack.processes import ENVIRONMENT, SYSTEM_PATH, Launch, launch, run
from pocketwatch.stack.servers import LOOPBACK, USER, VHOST

# The user and the vhost are created at the first start only; there is no user `guest` then.
SETTINGS = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
default_user = {user}
default_pass = {password}
default_vhost = {vhost}
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = info
log.console.use_colors = off
log.file = false
"""
# RabbitMQ's working directory. Quorum queues store the path of their data, which must be right after the folder has
# moved; and RabbitMQ 3.10 does not start when the path of its log has characters outside Latin-1.
HERE = Path("/proc/self/cwd")
PLUGINS = "[rabbitmq_management].\n"
# The management plugin's event handler delays a clean stop by five seconds.
QUICK_STOP = "spawn(fun() -> catch gen_event:delete_handler(rabbit_event, rabbit_mgmt_db_handler, []) end), ok."
# RabbitMQ 3.10 writes the name of a new quorum queue to the disk up to a second late. Killed before, it restarts with
# that queue empty and without a leader, and publishers to it hang. An election ends that; with a single node
# it has only one possible result.
ELECT_LEADERS = (
    "[ra:trigger_election({element(1, S), node()}) || S <- ets:tab2list(ra_state), element(2, S) =:= follower], ok."
)
COOKIE_SIZE = 32  # random bytes; Erlang's own cookie has 20 characters of a generator that the clock seeds
TOOL_TIMEOUT = 20.0  # seconds


class RabbitMQ(Server):
    """A node with its own name, cookie, data, plugins, log and port mapper (epmd)."""

    name = "rabbitmq"
    ports = ("amqp", "management", "distribution", "epmd", "tools")
    processes = frozenset({"beam.smp", "epmd", "erlexec", "rabbitmq-server"})

    def prepare(self) -> Launch:
        home = self.make_home()
        for folder in ("data", "log"):
            (home / folder).mkdir(mode=0o700, exist_ok=True)
        settings = SETTINGS.format(**self.context.ports, user=USER, password=self.password, vhost=VHOST)
        write_private(home / "rabbitmq.conf", settings)
        write_private(home / "plugins", PLUGINS)
        write_private(home / ".erlang.cookie", secrets.token_hex(COOKIE_SIZE))  # a new one for each start
        scripts = self.require(self.context.programs.rabbitmq())
        self._start_epmd(home)
        return Launch([str(scripts / "rabbitmq-server")], cwd=home, environment=self._environment())

    def after_start(self) -> None:
        """Elect a leader for every queue of an earlier run."""
        if any((self.context.folder / self.name / "data").glob("*/quorum/*/*/config")):
            self._evaluate(ELECT_LEADERS)

    def before_stop(self) -> None:
        """Shorten the stop; if that fails, it only takes longer."""
        self._evaluate(QUICK_STOP)

    def _start_epmd(self, home: Path) -> None:
        """Start a private port mapper; otherwise RabbitMQ starts one that works in "/".

        No record names it: it is ended with what else runs in the folder when RabbitMQ has stopped.
        """
        command = [str(self._epmd()), "-port", str(self.context.ports["epmd"]), "-address", LOOPBACK]
        launch(Launch(command, cwd=home, environment=ENVIRONMENT | {"HOME": str(home)}), log=self.log)

    def _evaluate(self, expression: str) -> None:
        """Evaluate an Erlang expression on the running node, if possible."""
        scripts = self.context.programs.rabbitmq()
        if scripts is None or not is_open(self.context.ports["epmd"]):
            return  # the command line tool would start an epmd of its own
        command = [str(scripts / "rabbitmqctl"), "-q", "-n", self.context.node, "eval", expression]
        with suppress(subprocess.TimeoutExpired):
            run(Launch(command, cwd=self.make_home(), environment=self._environment()), timeout=TOOL_TIMEOUT)

    def _environment(self) -> dict[str, str]:
        """Return the environment of the server and of its command line tools; nothing comes from /etc/rabbitmq."""
        ports = self.context.ports
        own = {
            "CONF_ENV_FILE": "/dev/null",
            "NODENAME": self.context.node,
            "CONFIG_FILE": HERE / "rabbitmq.conf",
            "ENABLED_PLUGINS_FILE": HERE / "plugins",
            "MNESIA_BASE": HERE / "data",
            "LOG_BASE": HERE / "log",
            "PID_FILE": HERE / "pid",
            "GENERATED_CONFIG_DIR": HERE / "generated",
            "DIST_PORT": ports["distribution"],
            "CTL_DIST_PORT_MIN": ports["tools"],
            "CTL_DIST_PORT_MAX": ports["tools"] + TOOLS - 1,
            "SERVER_START_ARGS": "+B i",  # ignore SIGINT
            "SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        return {
            **ENVIRONMENT,
            **{f"RABBITMQ_{name}": str(value) for name, value in own.items()},
            "PATH": f"{self._epmd().parent}:{SYSTEM_PATH}",
            "HOME": str(self.context.folder / self.name),  # of the cookie
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script replaces itself by the server, so that our child is the server
        }

    def _epmd(self) -> Path:
        return self.require(self.context.programs.which("epmd"))
