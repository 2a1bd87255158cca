"""A private mail server that stores every email in a Maildir and delivers none.

`python -m pocketwatch.stack.native.mail_catcher MAILDIR PORT` listens on the loopback interface until SIGTERM.
An accepted email is in its file; an interrupted one is not stored.
"""

import asyncio
import signal
import sys
from collections import deque
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, Envelope, Session

from pocketwatch.stack.native.caught_emails import RECIPIENTS, SENDER, by_arrival
from pocketwatch.stack.native.server import Server
from pocketwatch.stack.processes import ENVIRONMENT, PROJECT, Launch
from pocketwatch.stack.servers import LOOPBACK

MODULE = "pocketwatch.stack.native.mail_catcher"
KEEP = 10_000  # emails; the oldest are deleted
MAX_SIZE = 25 * 1024 * 1024  # bytes of an email


class MailCatcher(Server):
    name = "mail"
    ports = ("mail",)
    processes = frozenset({MODULE})

    def prepare(self) -> Launch:
        home = self.make_home()
        for folder in ("cur", "new", "tmp"):  # of a Maildir
            (home / folder).mkdir(mode=0o700, exist_ok=True)
        command = [sys.executable, "-m", MODULE, str(home), str(self.context.ports["mail"])]
        environment = ENVIRONMENT | {"PYTHONPATH": str(PROJECT), "PYTHONSAFEPATH": "1"}
        return Launch(command, cwd=home, environment=environment)


class NewestEmails(Mailbox):
    """A Maildir that keeps only the newest emails, byte for byte, each below its envelope."""

    def __init__(self, folder: Path, *, keep: int = KEEP) -> None:
        super().__init__(folder)
        self._keep = keep
        self._stored = deque(by_arrival(self.mailbox))
        self._delete_oldest()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's
        """Store the email as it came; the base class would parse and generate it, which fails on malformed ones."""
        try:
            self.store(envelope.mail_from or "", envelope.rcpt_tos, envelope.original_content or b"")
        except OSError as error:
            return f"452 cannot be stored: {error.strerror}"
        return "250 stored, not delivered"

    def store(self, sender: str, recipients: list[str], content: bytes) -> None:
        header = f"{SENDER}: {_one_line(sender)}\r\n{RECIPIENTS}: {_one_line(', '.join(recipients))}\r\n"
        self._stored.append(self.mailbox.add(header.encode("utf-8", "surrogateescape") + content))
        self._delete_oldest()

    def _delete_oldest(self) -> None:
        while len(self._stored) > self._keep:
            self.mailbox.discard(self._stored.popleft())


def _one_line(addresses: str) -> str:
    return " ".join(addresses.split())


async def _serve(folder: Path, port: int) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    handler = NewestEmails(folder)
    # With a name for itself, as it would ask the resolver for one for each connection.
    server = await loop.create_server(
        lambda: SMTP(handler, data_size_limit=MAX_SIZE, enable_SMTPUTF8=True, hostname="localhost", loop=loop),
        LOOPBACK,
        port,
    )
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
