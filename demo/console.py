"""The console of the demo: started on a free port, and each of its pages requested again and again."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self
from urllib.parse import quote

import httpx
import psycopg

from demo.up import PROJECT
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack import ports
from pocketwatch.stack.files import open_private

PREFERRED_PORT = 8080
STARTUP = 60.0  # seconds
PAUSE = 1.0  # seconds between two rounds
# Each page with its heading; `{run}` and `{job}` are a run of the demo.
PAGES = {
    "/": "Overview",
    "/schedule": "Schedule",
    "/runs": "Runs",
    "/runs/{run}": "{job}",
    "/dead": "Dead letters",
    "/retries": "Retries",
    "/emails": "Emails",
    "/moderation": "Moderation",
    "/analytics": "Analytics",
    "/queues": "Queues",
    "/actions": "Actions",
    "/trigger/cleanup.tokens": "cleanup.tokens",
}
LAST_RUN = "SELECT id, job FROM update_logs ORDER BY id DESC LIMIT 1"


@contextmanager
def console(environment: Mapping[str, str], *, log: Path | None = None) -> Iterator[str]:
    """Start the console, and yield its address; it logs to a file, or where this process does."""
    port = PREFERRED_PORT if ports.is_free(PREFERRED_PORT) else ports.any_free()
    command = [sys.executable, "-m", "pocketwatch", "web", "--port", str(port)]
    with _output(log) as output:
        process = subprocess.Popen(command, env=dict(environment), cwd=PROJECT, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url)
        yield url
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _output(log: Path | None) -> Iterator[IO[str] | None]:
    if log is None:
        yield None
        return
    with open_private(log, "w") as file:
        yield file


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    end = time.monotonic() + STARTUP
    while time.monotonic() < end and process.poll() is None:
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise PocketwatchError(f"the console has not started at {url}; see its log")


class Visitor:
    """Requests every page, and remembers which did not answer as it should."""

    def __init__(self, url: str, database_url: str) -> None:
        self._url, self._database_url = url, database_url
        self._stopping = threading.Event()
        self._visiting = threading.Thread(target=self._visit, name="visitor")
        self.rounds = 0
        self.slowest = 0.0  # seconds
        self.problems: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._visiting.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, after one more round: the pages of what is done now."""
        self._stopping.set()
        self._visiting.join()
        self._round()

    def _visit(self) -> None:
        while not self._stopping.wait(PAUSE):
            self._round()

    def _round(self) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            run = connection.execute(LAST_RUN).fetchone()
        with httpx.Client(base_url=self._url, trust_env=False, timeout=30) as client:
            for path, heading in PAGES.items():
                if run is not None or "{run}" not in path:
                    names = {"run": run and run[0], "job": run and run[1]}
                    self._request(client, path.format(**names), heading.format(**names))
        self.rounds += 1

    def _request(self, client: httpx.Client, path: str, heading: str) -> None:
        began = time.monotonic()
        try:
            page = client.get(quote(path))
        except httpx.TransportError as error:
            self.problems[path] = f"does not answer: {error}"
            return
        self.slowest = max(self.slowest, time.monotonic() - began)
        found = re.search(r"<h1[^>]*>(.*?)</h1>", page.text, re.DOTALL)
        if page.status_code != httpx.codes.OK or found is None or heading not in found[1]:
            self.problems[path] = f"answers {page.status_code} with {found[1].strip() if found else 'no heading'!r}"
