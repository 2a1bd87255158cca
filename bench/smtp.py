"""Emails to a local mail server that throws them away: our SmtpPool against smtplib with a connection for each.

    python -m bench.smtp [EMAILS]

2,000 emails of 11 KB by default, serialised beforehand: only the pool is measured. The server runs in a process
of its own, each sender too, and each run is checked by how many emails the server has taken, and how many bytes.
"""

import asyncio
import json
import os
import smtplib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from subprocess import PIPE, Popen
from typing import cast

from rich.console import Console
from rich.table import Table

from bench import programs, table
from bench.reporting import reporting
from bench.rounds import Contender, Sample, alternate
from bench.servers import Say, WorkNotDone
from pocketwatch.command import run as run_fast
from pocketwatch.smtp.pool import SmtpPool
from pocketwatch.smtp.rate_limit import RateLimits

EMAILS, ROUNDS, TARGET = 2_000, 5, 3.0
CONNECTIONS, IN_FLIGHT = 8, 64
SENDER, RECIPIENT = "noreply@site.test", "reader@mail.test"
EMAIL = b"Subject: News\r\nMessage-ID: <1@site.test>\r\n\r\n" + b"A line of some seventy characters.\r\n" * 311
REPLIES = {
    b"EHLO": b"250-sink\r\n250-PIPELINING\r\n250 SIZE 50000000\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}


class Sink(asyncio.Protocol):
    """Takes emails and counts them; `COUNT` reports their number and resets it."""

    emails = size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer, self.is_email = b"", False
        self.transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        reply = self.end() if self.is_email else b""
        while not self.is_email and b"\r\n" in self.buffer:
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            reply += self.answer(line[:4].upper())
        if reply:
            self.transport.write(reply)
        if reply == REPLIES[b"QUIT"]:
            self.transport.close()

    def end(self) -> bytes:
        if not self.buffer.endswith(b"\r\n.\r\n"):
            return b""
        Sink.emails, Sink.size = Sink.emails + 1, Sink.size + len(self.buffer) - 3
        self.buffer, self.is_email = b"", False
        return b"250 ok\r\n"

    def answer(self, verb: bytes) -> bytes:
        if verb == b"COUN":
            counted = b"250 %d %d\r\n" % (Sink.emails, Sink.size)
            Sink.emails = Sink.size = 0
            return counted
        self.is_email = verb == b"DATA"
        return REPLIES.get(verb, b"250 ok\r\n")


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def sink() -> Iterator[int]:
    """The port of a sink, for as long as the block lasts."""
    with Popen(programs.module("bench.smtp", "--sink"), stdout=PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def send_plainly(port: int, count: int) -> None:
    """As Django's mail backend does for a single email."""
    for _ in range(count):
        with smtplib.SMTP("127.0.0.1", port, local_hostname="bench") as client:
            client.sendmail(SENDER, RECIPIENT, EMAIL)


async def send(port: int, count: int) -> None:
    left = iter(range(count))
    async with SmtpPool(
        f"smtp://127.0.0.1:{port}",
        local_hostname="bench.example",
        connections=CONNECTIONS,
        limits=RateLimits(),
        timeout=timedelta(seconds=10),
    ) as pool:

        async def work() -> None:
            for _ in left:
                result = await pool.send(sender=SENDER, recipient=RECIPIENT, message=EMAIL)
                assert result.outcome == "sent", result

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


SENDERS = {"--smtplib": send_plainly, "--ours": lambda port, count: run_fast(send(port, count))}


def run(count: int, say: Say) -> Table:
    """The comparison."""
    with sink() as port:
        contenders = [
            Contender(
                "Pocketwatch SmtpPool",
                f"{CONNECTIONS} kept connections, up to {IN_FLIGHT} emails in flight",
                lambda: measure("--ours", port, count),
                ours=True,
            ),
            Contender("smtplib", "a connection for each email", lambda: measure("--smtplib", port, count)),
        ]
        results = alternate(contenders, rounds=ROUNDS, warm_up=True, say=say)
    title = f"smtp: {count:,} emails of {len(EMAIL) / 1000:.0f} KB to a local sink"
    return table.compare(title, results, caption=[table.versions("aiosmtplib")], count=count, target=TARGET)


def measure(sender: str, port: int, count: int) -> Sample:
    done = programs.run(programs.module("bench.smtp", sender, str(port), str(count)), os.environ)
    with smtplib.SMTP("127.0.0.1", port, local_hostname="bench") as client:
        taken = tuple(map(int, client.docmd("COUNT")[1].split()))
    if taken != (count, count * len(EMAIL)):
        raise WorkNotDone(f"{sender}: the sink has taken {taken}, should be {(count, count * len(EMAIL))}")
    return Sample(**json.loads(done.output))


def main(words: list[str]) -> None:
    if words[:1] == ["--sink"]:
        return run_fast(serve())
    if words[:1] and words[0] in SENDERS:
        with reporting():
            return SENDERS[words[0]](*map(int, words[1:]))
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    return console.print(run(int(words[0]) if words else EMAILS, Console(stderr=True, highlight=False).print))


if __name__ == "__main__":
    main(sys.argv[1:])
