"""The mail catcher: an SMTP server that takes every letter, keeps it as a file and delivers none.

`python -m pocketwatch.stack.catcher FOLDER PORT` listens on the loopback interface until SIGTERM; the letters are read
by `pocketwatch.stack.letters`. A letter that was answered with 250 is in its file; an unfinished one is not kept.
"""

import asyncio
import signal
import sys
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session, syntax
from uvloop import new_event_loop

from pocketwatch.stack.mailbox import Mailbox
from pocketwatch.stack.ports import LOOPBACK

LARGEST = 25 * 1024 * 1024  # bytes of a letter
CHUNK = 65_536  # bytes that are looked through at once
NEW_LINE, DOT = b"\r\n", b".\r\n"
END = NEW_LINE + DOT


class Keeping:
    """What becomes of letters: they are kept."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def handle_EHLO(  # noqa: N802  aiosmtpd's signature
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Tell also what aiosmtpd does without telling: it reads commands one after the other from what has come."""
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Store the letter."""
        try:
            number = self._mailbox.store(envelope.mail_from or "", envelope.rcpt_tos, envelope.original_content or b"")
        except OSError as error:
            return f"452 cannot be kept: {error.strerror}"
        return f"250 kept as {number}, delivered to nobody"


class Conversation(SMTP):
    """One client's. It reads a letter in large pieces; aiosmtpd goes line by line, which is most of its work."""

    line_length_limit = CHUNK

    @syntax("DATA")
    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802  aiosmtpd's name
        """Take a letter, with lines of any length."""
        if self.session is None or self.envelope is None or not self.envelope.rcpt_tos or arg:
            await super().smtp_DATA(arg or "")  # it says what is wrong
            return
        await self.push("354 the letter, and a dot on a line of its own")
        letter = await self._letter()
        if letter is None:
            status = f"552 larger than {LARGEST} bytes"
        else:
            self.envelope.content = self.envelope.original_content = letter
            status = await self.event_handler.handle_DATA(self, self.session, self.envelope)
        self.envelope = self._create_envelope()
        await self.push(status)

    async def _letter(self) -> bytes | None:
        """The letter as its sender meant it; None when it is too large."""
        pieces: list[bytes] = []
        size, tail = -len(DOT), NEW_LINE
        while tail != END:
            piece = await self._piece()
            tail = (tail + piece[-len(END) :])[-len(END) :]
            size += len(piece)
            if size <= LARGEST:
                pieces.append(piece)
            else:
                pieces.clear()  # but the sender is heard out, or it would not hear us
        return _plain(b"".join(pieces)) if size <= LARGEST else None

    async def _piece(self) -> bytes:
        """Up to where a letter may end, or whatever is there of a long stretch without such a place."""
        try:
            return await self._reader.readuntil(DOT)
        except asyncio.LimitOverrunError as error:
            return await self._reader.read(error.consumed)


def _plain(sent: bytes) -> bytes:
    """Without the dot at the end, and those that were put before the dots at the beginnings of lines."""
    return sent.removesuffix(DOT).removeprefix(b".").replace(NEW_LINE + b".", NEW_LINE)


async def _serve(folder: Path, port: int) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    keeping = Keeping(Mailbox(folder))

    def conversation() -> Conversation:
        return Conversation(keeping, data_size_limit=LARGEST, enable_SMTPUTF8=True, hostname="localhost", loop=loop)

    server = await loop.create_server(conversation, LOOPBACK, port)
    await told.wait()
    server.close()


def main(folder: str, port: str) -> None:
    """The catcher's life."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(Path(folder), int(port)))


if __name__ == "__main__":
    main(*sys.argv[1:])
