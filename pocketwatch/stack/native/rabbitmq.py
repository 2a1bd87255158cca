"""Private RabbitMQ nodes, and their port mapper."""

import secrets
import subprocess
from contextlib import suppress
from pathlib import Path

from pocketwatch.stack.files import write_private
from pocketwatch.stack.native.server import Server, StackContext
from pocketwatch.stack.ports import TOOLS
from pocketwatch.stack.probes import is_open
from pocketwatch.stack.processes import ENVIRONMENT, SYSTEM_PATH, Launch, run
from pocketwatch.stack.servers import LOOPBACK, NODES, PORT_MAPPER, USER, VHOST

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
# As docs/scaling.md recommends.
CLUSTER = """\
cluster_partition_handling = autoheal
net_ticktime = 15
"""
# RabbitMQ's working directory. Quorum queues store the path of their data, which must be right after the folder has
# moved; and RabbitMQ 3.10 does not start when the path of its log has characters outside Latin-1.
HERE = Path("/proc/self/cwd")
PLUGINS = "[rabbitmq_management].\n"
# The management plugin's event handler delays a clean stop by five seconds.
QUICK_STOP = "rpc:eval_everywhere(gen_event, delete_handler, [rabbit_event, rabbit_mgmt_db_handler, []]), ok."
# RabbitMQ 3.10 writes the name of a new quorum queue to the disk up to a second late. Killed before, it restarts with
# that queue empty and without a leader, and publishers to it hang. An election ends that; with a single node
# it has only one possible result.
ELECT_LEADERS = (
    "[ra:trigger_election({element(1, S), node()}) || S <- ets:tab2list(ra_state), element(2, S) =:= follower], ok."
)
COOKIE_SIZE = 32  # random bytes; Erlang's own cookie has 20 characters of a generator that the clock seeds
TOOL_TIMEOUT = 20.0  # seconds


class PortMapper(Server):
    """The private epmd of all nodes. It outlives each, so that the others find one that starts again.

    Without it, RabbitMQ starts one that works in "/".
    """

    name = PORT_MAPPER
    kind = NODES[0]
    ports = ("epmd",)
    processes = frozenset({"epmd"})

    def folders(self) -> list[Path]:
        """Return the home of the nodes and their tools, which may have started another one."""
        return [self.context.folder / self.kind]

    def prepare(self) -> Launch:
        (home := self.folders()[0]).mkdir(mode=0o700, exist_ok=True)
        program = self.require(self.context.programs.which("epmd"))
        command = [str(program), "-port", str(self.context.ports["epmd"]), "-address", LOOPBACK]
        return Launch(command, cwd=home, environment=ENVIRONMENT | {"HOME": str(home)})


class RabbitMQ(Server):
    """A node with its own name, data, plugins and log.

    The nodes of a cluster are equal. The second and the third one join the first one at their first start.
    """

    kind = NODES[0]
    processes = frozenset({"beam.smp", "erlexec", "rabbitmq-server"})

    def __init__(self, context: StackContext, number: int = 1) -> None:
        super().__init__(context)
        self._number = number
        self.name = NODES[number - 1]
        names = ("amqp", "management", "distribution")
        self.ports = (*names, "tools") if number == 1 else tuple(f"{name}{number}" for name in names)

    @property
    def joins(self) -> bool:
        return self._number > 1 and not any((self.context.folder / self.name / "data").glob("*"))

    def prepare(self) -> Launch:
        home = self.make_home()
        for folder in ("data", "log"):
            (home / folder).mkdir(mode=0o700, exist_ok=True)
        write_private(home / "rabbitmq.conf", self._settings())
        write_private(home / "plugins", PLUGINS)
        self._make_cookie()
        scripts = self.require(self.context.programs.rabbitmq())
        return Launch([str(scripts / "rabbitmq-server")], cwd=home, environment=self._environment())

    def after_start(self) -> None:
        """Elect a leader for every queue of an earlier run."""
        if self.context.nodes == 1 and any((self.context.folder / self.name / "data").glob("*/quorum/*/*/config")):
            self._evaluate(ELECT_LEADERS)

    def before_stop(self) -> None:
        """Shorten the stop of all nodes; if that fails, it only takes longer."""
        if self._number == 1:
            self._evaluate(QUICK_STOP)

    def _settings(self) -> str:
        amqp, management = (self.context.ports[name] for name in self.ports[:2])
        own = SETTINGS.format(amqp=amqp, management=management, user=USER, password=self.password, vhost=VHOST)
        if self.context.nodes == 1:
            return own
        peers = [] if self._number == 1 else [self._node(1), self._node(self._number)]
        found = (f"cluster_formation.classic_config.nodes.{n} = {peer}\n" for n, peer in enumerate(peers, 1))
        return "".join([own, CLUSTER, *found])

    def _make_cookie(self) -> None:
        """Make the secret of all nodes, with the data of the first one."""
        path = self._home_of_all / ".erlang.cookie"
        if not path.exists():
            write_private(path, secrets.token_hex(COOKIE_SIZE))

    @property
    def _home_of_all(self) -> Path:
        return self.context.folder / self.kind

    def _node(self, number: int) -> str:
        """Return the name of a node; its data folder has this name."""
        name, _, host = self.context.node.partition("@")
        return self.context.node if number == 1 else f"{name}_{number}@{host}"

    def _evaluate(self, expression: str) -> None:
        """Evaluate an Erlang expression on the running node, if possible."""
        scripts = self.context.programs.rabbitmq()
        if scripts is None or not is_open(self.context.ports["epmd"]):
            return  # the command line tool would start an epmd of its own
        command = [str(scripts / "rabbitmqctl"), "-q", "-n", self._node(self._number), "eval", expression]
        with suppress(subprocess.TimeoutExpired):
            run(Launch(command, cwd=self.make_home(), environment=self._environment()), timeout=TOOL_TIMEOUT)

    def _environment(self) -> dict[str, str]:
        """Return the environment of the server and of its command line tools; nothing comes from /etc/rabbitmq."""
        ports = self.context.ports
        own = {
            "CONF_ENV_FILE": "/dev/null",
            "NODENAME": self._node(self._number),
            "CONFIG_FILE": HERE / "rabbitmq.conf",
            "ENABLED_PLUGINS_FILE": HERE / "plugins",
            "MNESIA_BASE": HERE / "data",
            "LOG_BASE": HERE / "log",
            "PID_FILE": HERE / "pid",
            "GENERATED_CONFIG_DIR": HERE / "generated",
            "DIST_PORT": ports[self.ports[2]],
            "CTL_DIST_PORT_MIN": ports["tools"],
            "CTL_DIST_PORT_MAX": ports["tools"] + TOOLS - 1,
            "SERVER_START_ARGS": "+B i",  # ignore SIGINT
            "SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        return {
            **ENVIRONMENT,
            **{f"RABBITMQ_{name}": str(value) for name, value in own.items()},
            "PATH": f"{self._epmd().parent}:{SYSTEM_PATH}",
            "HOME": str(self._home_of_all),  # of the cookie
            "ERL_EPMD_PORT": str(ports["epmd"]),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RUNNING_UNDER_SYSTEMD": "1",  # the script replaces itself by the server, so that our child is the server
        }

    def _epmd(self) -> Path:
        return self.require(self.context.programs.which("epmd"))
