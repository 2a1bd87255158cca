"""One conversation with the mail server, from the greeting to QUIT, which always knows how far it has come.

    connect ─► tls ─► hello ─► login ─► [ mail ─► rcpt ─► data ─► dot ] …

aiosmtplib opens the connection. The steps of a letter are spoken here, because where a connection is lost decides what
becomes of the letter; where the server allows it, mail, rcpt and data are said in one breath.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponse, SMTPResponseException

from pocketwatch.smtp.protocol import Wire
from pocketwatch.smtp.replies import (
    OPENING,
    Fate,
    Phase,
    judge,
    lost,
    unfit,
)
from pocketwatch.smtp.url import Server

QUIT_WITHIN = 1.0  # seconds
LOGIN_METHODS = ("plain", "login", "cram-md5")  # one is tried; a wrong password tried thrice may lock the account
AT_ONCE = 64 * 1024  # bytes of a letter that leave in one write

POSITIVE, GO_ON, REFUSED = 2, 3, (4, 5)  # first digits
CLOSING = 421
Step = tuple[Phase, int, bytes]  # the first digit that goes on, and the command
ADDRESS = re.compile(r"[^\s<>@\x00-\x1f\x7f]+@[^\s<>@\x00-\x1f\x7f]+")


class NotOpened(Exception):
    """The server does not let us in; `fate` is that of the letter in hand."""

    def __init__(self, fate: Fate) -> None:
        super().__init__(fate.reply)
        self.fate = fate


class Connection:
    """Letters go through one after the other. To be closed with `quit` or `abort`.

    Args:
        hello: our own name, as EHLO tells it.
        timeout: seconds to connect, and to wait for a reply.
        final: seconds to wait for the reply to a whole letter.
    """

    def __init__(self, server: Server, *, hello: str, timeout: float, final: float) -> None:
        self.letters = 0  # that were begun here
        self.used_at = time.monotonic()
        self._server, self._timeout, self._final = server, timeout, final
        self._wire: Wire | None = None
        self._phase: Phase = "connect"
        self._is_clean = True
        self._smtp = SMTP(
            hostname=server.host,
            port=server.port,
            local_hostname=hello,
            timeout=timeout,
            use_tls=server.scheme == "smtps",
            start_tls=False,
            tls_context=server.context,
        )

    @property
    def is_open(self) -> bool:
        """As far as is known: a server that has gone in silence is met only by speaking to it."""
        return self._wire is not None and self._wire.is_open

    async def open(self) -> None:
        """Connect, and say who we are.

        Raises:
            NotOpened: with what the server has said, or why there is no server.
        """
        try:
            await self._open()
        except Exception as error:
            self.abort()
            if isinstance(error, SMTPException | OSError):
                raise NotOpened(self._fate(error)) from error
            raise
        except BaseException:
            self.abort()
            raise

    async def _open(self) -> None:
        self._phase = "connect"
        await self._smtp.connect()
        if self._server.scheme == "smtp+starttls":
            await self._hello()
            self._phase = "tls"
            await self._smtp.starttls()
        await self._hello()
        if self._server.user is not None:
            self._phase = "login"
            await self._login(self._server.user, self._server.password)
        transport = cast("asyncio.Transport | None", self._smtp.transport)
        if transport is None:
            raise ConnectionError("connection lost")
        self._wire = Wire(transport)

    async def _hello(self) -> None:
        self._phase = "hello"
        try:
            await self._smtp.ehlo()
        except SMTPHeloError:
            await self._smtp.helo()

    async def _login(self, user: str, password: str) -> None:
        offered = self._smtp.supported_auth_methods
        method = next((method for method in LOGIN_METHODS if method in offered), None)
        if method is None:
            raise SMTPException("the server offers no login that we know")
        await getattr(self._smtp, f"auth_{method.replace('-', '')}")(user, password)

    async def deliver(self, *, sender: str, recipient: str, letter: bytes) -> Fate:
        """Hand over one letter. Afterwards the connection is as good as new, or closed."""
        self._phase, self.used_at = "mail", time.monotonic()
        try:
            fate = self._objection(sender, recipient, letter) or await self._transaction(
                self._opened(), sender, recipient, letter
            )
        except (SMTPException, OSError) as error:
            self.abort()  # a reply that comes now would be taken for the next one's
            return self._fate(error)
        except BaseException:
            self.abort()
            raise
        self.used_at = time.monotonic()
        return fate

    def _objection(self, sender: str, recipient: str, letter: bytes) -> Fate | None:
        """What can be told without asking: what this server cannot carry."""
        if sender and not ADDRESS.fullmatch(sender):
            return unfit("ours", "mail", f'the sender is "{sender}", which is no address')
        if not ADDRESS.fullmatch(recipient):
            return unfit("bad_address", "rcpt", f'the recipient is "{recipient}", which is no address')
        if not (sender + recipient).isascii() and not self._smtp.supports_extension("smtputf8"):
            return unfit("refused", "rcpt", "the server takes no address with letters beyond ASCII (SMTPUTF8)")
        if not letter.isascii() and not self._smtp.supports_extension("8bitmime"):
            return unfit("refused", "mail", "the server takes no letter with bytes beyond ASCII (8BITMIME)")
        most = self._smtp.esmtp_extensions.get("size", "")
        if most.isdecimal() and 0 < int(most) < len(letter):
            return unfit("refused", "mail", f"the letter has {len(letter)} bytes, the server takes {most}")
        return None

    def _opened(self) -> Wire:
        if self._wire is None:
            raise ConnectionError("not connected")
        return self._wire

    async def _transaction(self, wire: Wire, sender: str, recipient: str, letter: bytes) -> Fate:
        self.letters += 1
        content = _on_the_wire(letter)
        options = self._options(sender + recipient, letter, len(content))
        steps: list[Step] = [
            ("mail", POSITIVE, b" ".join((f"MAIL FROM:<{sender}>".encode(), *options))),
            ("rcpt", POSITIVE, f"RCPT TO:<{recipient}>".encode()),
            ("data", GO_ON, b"DATA"),
        ]
        if not self._is_clean:
            steps.insert(0, ("mail", POSITIVE, b"RSET"))
        self._is_clean = False
        in_one_breath = self._smtp.supports_extension("pipelining")
        for group in [steps] if in_one_breath else [[step] for step in steps]:
            if (refusal := await self._ask(wire, group)) is not None:
                return refusal
        reply = await self._hand_over(wire, content)
        self._is_clean = True
        return self._judged(reply, (POSITIVE, *REFUSED))

    async def _ask(self, wire: Wire, steps: Sequence[Step]) -> Fate | None:
        """What the first refusal means; None when everything goes on."""
        wire.write(b"".join(command + b"\r\n" for _, _, command in steps))
        for number, (phase, wanted, _) in enumerate(steps, start=1):
            self._phase = phase
            reply = await wire.reply(self._timeout)
            if reply.code // 100 != wanted:
                fate = self._judged(reply, REFUSED)
                await self._hear_out(wire, len(steps) - number)
                return fate
        return None

    async def _hear_out(self, wire: Wire, count: int) -> None:
        """The replies to what was said after a refusal; a server that waits for a letter all the same is left."""
        try:
            replies = [await wire.reply(self._timeout) for _ in range(count)]
        except (SMTPException, OSError):
            return self.abort()
        if any(reply.code // 100 == GO_ON for reply in replies):
            self.abort()
        return None

    def _options(self, addresses: str, letter: bytes, size: int) -> list[bytes]:
        options = []
        if self._smtp.supports_extension("size"):
            options.append(b"SIZE=%d" % size)
        if not letter.isascii():
            options.append(b"BODY=8BITMIME")
        if not addresses.isascii():
            options.append(b"SMTPUTF8")
        return options

    async def _hand_over(self, wire: Wire, content: bytes) -> SMTPResponse:
        """The letter and its dot. A short one leaves in one write: lost from then on, it may have arrived.

        The dot of a long one waits until all before it has left; the server may refuse, or hang up, in the middle.
        """
        if len(content) > AT_ONCE:
            wire.write(content)
            await wire.sent_or_answered(self._final)
            if not wire.is_open:
                reply = await wire.reply(self._timeout)
                raise SMTPResponseException(reply.code, reply.message)
            content = b""
        self._phase = "dot"
        wire.write(content + b".\r\n")
        return await wire.reply(self._final)

    def _judged(self, reply: SMTPResponse, known: tuple[int, ...]) -> Fate:
        """The fate by a reply that begins with a known digit; after any other, nobody knows what is spoken of."""
        if reply.code // 100 not in known:
            raise SMTPResponseException(reply.code, reply.message)
        if reply.code == CLOSING:
            self.abort()
        return judge(self._phase, reply.code, reply.message, secrets=self._server.secrets)

    def _fate(self, error: Exception) -> Fate:
        secrets, phase = self._server.secrets, self._phase
        if isinstance(error, SMTPResponseException):
            return judge(phase, error.code, error.message, secrets=secrets)
        if phase in OPENING and (reason := _misfit(error)):
            return unfit("ours", phase, reason, secrets=secrets)
        return lost(phase, f"{str(error) or type(error).__name__} ({phase})", secrets=secrets)

    async def quit(self) -> None:
        """Take leave, within a second."""
        try:
            if self._wire is not None and self.is_open:
                self._wire.write(b"QUIT\r\n")
                with suppress(SMTPException, OSError):
                    await self._wire.reply(QUIT_WITHIN)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the socket now, with whatever has not left yet."""
        transport = cast("asyncio.WriteTransport | None", self._smtp.transport)
        self._smtp.close()
        if transport is not None:
            transport.abort()


def _misfit(error: Exception) -> str | None:
    """What keeps us and the server from ever agreeing; None for what may pass by itself."""
    for each in (error, error.__cause__):
        if isinstance(each, ssl.SSLError) and not isinstance(each, ssl.SSLEOFError):
            return f"no TLS with the server: {each}"
    return error.message if type(error) is SMTPException else None  # it does not offer what we insist on


def _on_the_wire(letter: bytes) -> bytes:
    """With CRLF at the end of each line, the last one too, and a dot before a dot that begins a line."""
    breaks = letter.count(b"\r\n")
    if letter.count(b"\n") != breaks or letter.count(b"\r") != breaks:
        letter = letter.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if not letter.endswith(b"\r\n"):
        letter += b"\r\n"
    if letter.startswith(b"."):
        letter = b"." + letter
    return letter.replace(b"\r\n.", b"\r\n..")
