"""A private RabbitMQ node, and the Erlang port mapper (epmd) that it needs, which is private too."""

import signal
from contextlib import suppress
from pathlib import Path

from pocketwatch.stack.files import write_private
from pocketwatch.stack.ports import LOOPBACK, TOOLS
from pocketwatch.stack.probes import USER, is_open, rabbitmq_is_ready
from pocketwatch.stack.processes import ENVIRONMENT, SYSTEM_PATH, Launch, run
from pocketwatch.stack.server import Place, needed
from pocketwatch.stack.urls import VHOST

# User and vhost are made at the first start only; the user `guest` does not exist then.
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
# What RabbitMQ calls its own folder, in which it stands. Quorum queues remember the path of their data, which must hold
# after the folder has moved; and RabbitMQ 3.10 does not start when the path of its log has letters beyond Latin-1.
HERE = Path("/proc/self/cwd")
PLUGINS = "[rabbitmq_management].\n"
# The management plugin's event handler holds a clean stop up for five seconds; without it the same stop takes one.
QUICK_STOP = "spawn(fun() -> catch gen_event:delete_handler(rabbit_event, rabbit_mgmt_db_handler, []) end), ok."
# RabbitMQ 3.10 writes the name of a new quorum queue to the disk up to a second late. Killed before, it comes back with
# that queue empty and without a leader, and whoever publishes to it hangs for ever. An election ends that; with a
# single node it can have one result only.
ELECT_LEADERS = (
    "[ra:trigger_election({element(1, S), node()}) || S <- ets:tab2list(ra_state), element(2, S) =:= follower], ok."
)
TOOL_PATIENCE = 20.0  # seconds


class Epmd:
    """Started before RabbitMQ, or RabbitMQ would start one that outlives it. Nodes of other stacks never meet ours."""

    name = "epmd"
    part_of = "rabbitmq"
    ports = ("epmd",)
    stop_signal = signal.SIGTERM

    def __init__(self, place: Place) -> None:
        self._place = place

    def prepare(self) -> Launch:
        """It has no files."""
        home = self._place.home("rabbitmq")
        program = needed(self._place.programs.which("epmd"), "rabbitmq")
        command = [str(program), "-port", str(self._place.ports["epmd"]), "-address", LOOPBACK]
        return Launch(command, cwd=home, environment=ENVIRONMENT | {"HOME": str(home)})

    def is_ready(self) -> bool:
        """It listens."""
        return is_open(self._place.ports["epmd"])

    def after_start(self) -> None:
        """Nothing."""

    def before_stop(self) -> None:
        """Nothing."""


class RabbitMQ:
    """A node of its own, with its own name, cookie, data, plugins and log."""

    name = part_of = "rabbitmq"
    ports = ("amqp", "management", "distribution")
    stop_signal = signal.SIGTERM

    def __init__(self, place: Place) -> None:
        self._place = place

    def prepare(self) -> Launch:
        """Write the configuration and the list of plugins."""
        home = self._place.home(self.name)
        for folder in ("data", "log"):
            (home / folder).mkdir(exist_ok=True)
        settings = SETTINGS.format(
            **self._place.ports, user=USER, password=self._place.passwords[self.name], vhost=VHOST
        )
        write_private(home / "rabbitmq.conf", settings)
        write_private(home / "plugins", PLUGINS)
        scripts = needed(self._place.programs.rabbitmq(), self.name)
        return Launch([str(scripts / "rabbitmq-server")], cwd=home, environment=self.environment())

    def is_ready(self) -> bool:
        """It takes connections, and our user and password."""
        return rabbitmq_is_ready(self._place.ports, self._place.passwords[self.name])

    def after_start(self) -> None:
        """Give every queue of an earlier run its leader."""
        if any((self._place.folder / self.name / "data").glob("*/quorum/*/*/config")):
            self._evaluate(ELECT_LEADERS)

    def before_stop(self) -> None:
        """Make the stop quick. When that fails, it is only slower."""
        self._evaluate(QUICK_STOP)

    def _evaluate(self, expression: str) -> None:
        """Have the running node do something, if it can."""
        scripts = self._place.programs.rabbitmq()
        if scripts is None or not is_open(self._place.ports["epmd"]):
            return  # without epmd the command line tool would start one, and that would stay
        command = [str(scripts / "rabbitmqctl"), "-q", "-n", self._place.node, "eval", expression]
        tool = Launch(command, cwd=self._place.home(self.name), environment=self.environment())
        with suppress(TimeoutError):
            run(tool, patience=TOOL_PATIENCE)

    def environment(self) -> dict[str, str]:
        """For the server and for its command line tools alike; nothing is taken from /etc/rabbitmq."""
        ports, home = self._place.ports, self._place.folder / self.name
        own = {
            "CONF_ENV_FILE": "/dev/null",
            "NODENAME": self._place.node,
            "CONFIG_FILE": HERE / "rabbitmq.conf",
            "ENABLED_PLUGINS_FILE": HERE / "plugins",
            "MNESIA_BASE": HERE / "data",
            "LOG_BASE": HERE / "log",
            "PID_FILE": HERE / "pid",
            "GENERATED_CONFIG_DIR": HERE / "generated",
            "DIST_PORT": ports["distribution"],
            "CTL_DIST_PORT_MIN": ports["tools"],
            "CTL_DIST_PORT_MAX": ports["tools"] + TOOLS - 1,
            "SERVER_START_ARGS": "+B i",  # a SIGINT that is not meant for it does not stop it
            "SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        return {
            **ENVIRONMENT,
            **{f"RABBITMQ_{name}": str(value) for name, value in own.items()},
            "PATH": f"{self._erlang()}:{SYSTEM_PATH}",
            "HOME": str(home),  # of the cookie
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script replaces itself by the server, so that our child is the server
        }

    def _erlang(self) -> Path:
        return needed(self._place.programs.which("epmd"), self.name).parent
