"""A fork server: starts processes of the suite without importing it again.

    python -m tests.support.fork_server SOCKET

A request holds the module, its arguments, the environment and the working directory, and passes file descriptors for
standard output, standard error and the exit code. Each request gets a process of its own, which differs from
`python -m` only in that the modules are imported already.
"""

import gc
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

# Only these may differ from the server's environment: Python, the C library and rich read others once, at the start.
OURS = ("POCKETWATCH_", "RABBITMQ_", "DATABASE_", "REDIS_", "SMTP_", "DJANGO_", "CELERY_", "PYTEST_", "SSL_CERT_FILE")
ROOT = Path(__file__).parents[2]


class Forked:
    """A process, as `subprocess.Popen` shows it."""

    def __init__(self, args: list[str], pid: int, exit_code: int) -> None:
        self.args, self.pid = args, pid
        self._exit_code = exit_code  # the file it is read from
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._read(0.0)

    def wait(self, timeout: float | None = None) -> int:
        if self._read(timeout) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self, within: float | None) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._exit_code, selectors.EVENT_READ)
                if not selector.select(within):
                    return None
            self.returncode = int(os.read(self._exit_code, 100) or b"-9")  # the server has been killed, and we with it
            os.close(self._exit_code)
        return self.returncode


class ForkServer:
    """Runs the fork server until this process ends."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # pytest-xdist sets it
        self._environment = inherited | {"PYTHONPATH": str(ROOT)}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def can_start(self, environment: Mapping[str, str]) -> bool:
        """Whether this environment differs only in variables that the suite reads itself."""
        changed = {name for name, _ in self._environment.items() ^ environment.items()}
        return all(name.startswith(OURS) for name in changed)

    def start(
        self, module: str, arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path, out: int, err: int
    ) -> Forked:
        """Start `python -m MODULE ARGUMENT…`, with these files for its output."""
        exit_code, theirs = os.pipe()
        request = json.dumps([module, list(arguments), dict(environment), str(folder)]).encode()
        socket.send_fds(self._socket, [len(request).to_bytes(4, "big") + request], [out, err, theirs])
        os.close(theirs)
        pid = int.from_bytes(self._socket.recv(4), "big")
        assert pid, "the fork server has ended"
        return Forked([sys.executable, "-m", module, *arguments], pid, exit_code)


@cache
def fork_server() -> ForkServer:
    """Return the fork server of this process."""
    return ForkServer()


def _serve(requests: socket.socket) -> tuple[str, list[str]]:
    """Fork for each request; return, in the new process, the module that it runs and its arguments."""
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    running: dict[int, tuple[int, int]] = {}  # by pidfd: the process, and where its exit code goes
    while True:
        for key, _ in selector.select():
            if key.fd in running:
                pid, exit_code = running.pop(key.fd)
                selector.unregister(key.fd)
                _, status = os.waitpid(pid, 0)
                os.write(exit_code, str(os.waitstatus_to_exitcode(status)).encode())
                os.close(exit_code)
                os.close(key.fd)
                continue
            head, files, _, _ = socket.recv_fds(requests, 4, 3)
            if not head:
                os._exit(0)
            size = int.from_bytes(head, "big")
            request = json.loads(requests.recv(size, socket.MSG_WAITALL))
            if not (pid := os.fork()):
                selector.close()
                requests.close()
                return _become(request, files)
            requests.sendall(pid.to_bytes(4, "big"))
            out, err, exit_code = files
            os.close(out)
            os.close(err)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = (pid, exit_code)
            selector.register(pidfd, selectors.EVENT_READ)


def _become(request: Any, files: list[int]) -> tuple[str, list[str]]:
    """Apply the request to this new process."""
    module, arguments, environment, folder = request
    out, err, exit_code = files
    os.dup2(out, 1)
    os.dup2(err, 2)
    for file in {out, err, exit_code}:
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = folder
    return module, arguments


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv[1]))
    from console.cli.main import COMMANDS  # noqa: PLC0415

    for place in (*COMMANDS.values(), "publishers.app:", "consumers.app:"):
        import_module(place.partition(":")[0])
    gc.freeze()
    module, arguments = _serve(requests)
    sys.argv = ["", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
