"""One SMTP session, from the greeting to QUIT.

    connect ─► tls ─► ehlo ─► auth ─► [ mail ─► rcpt ─► data ─► end_of_data ] …

aiosmtplib sends the commands. The phase is tracked here, because where a session fails decides what the result is.
"""

import asyncio
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

from aiosmtplib import SMTP, SMTPException, SMTPHeloError, SMTPResponse, SMTPResponseException

from pocketwatch.smtp.replies import DeliveryResult, classify_reply, connection_lost, rejected_locally
from pocketwatch.smtp.reply_lines import ReplyLines
from pocketwatch.smtp.reply_rules import SESSION_PHASES, Phase
from pocketwatch.smtp.url import SmtpUrl

QUIT_TIMEOUT = 1.0  # seconds
AUTH_METHODS = ("plain", "login", "cram-md5")  # only the first one offered: repeated failures may lock the account
MAX_SINGLE_WRITE = 64 * 1024  # bytes of a message that are written together with its final dot
POLL_INTERVAL = 0.01  # seconds between looks at how much of a longer message has left

POSITIVE, CONTINUE, REJECTED = 2, 3, (4, 5)  # first digits
CLOSING = 421
ADDRESS = re.compile(r"[^\s<>@\x00-\x1f\x7f]+@[^\s<>@\x00-\x1f\x7f]+")


class SessionFailed(Exception):
    """No session could be opened; `result` is that of the message it was opened for."""

    def __init__(self, result: DeliveryResult) -> None:
        super().__init__(result.reply)
        self.result = result


class Connection:
    """Sends messages one after another. Close it with `quit` or `abort`.

    Args:
        server: from `parse_smtp_url`.
        local_hostname: for EHLO.
        timeout: seconds to connect, and to wait for a reply.
        data_timeout: seconds to transfer a message, and to wait for the reply to it.
    """

    def __init__(self, server: SmtpUrl, *, local_hostname: str, timeout: float, data_timeout: float) -> None:
        self.message_count = 0
        self.last_used = time.monotonic()
        self._server, self._data_timeout = server, data_timeout
        self._phase: Phase = "connect"
        self._needs_reset = False
        self._lines: ReplyLines | None = None
        self._smtp = SMTP(
            hostname=server.host,
            port=server.port,
            local_hostname=local_hostname,
            timeout=timeout,
            use_tls=server.scheme == "smtps",
            start_tls=False,
            tls_context=server.tls_context,
        )

    @property
    def is_open(self) -> bool:
        """As far as known: that the server's host has vanished shows only when it is used."""
        return self._smtp.is_connected and not (self._lines and self._lines.is_closing)

    async def open(self) -> None:
        """Connect, start TLS and log in, as the URL says.

        Raises:
            SessionFailed: with what the server replied, or why there was no reply.
        """
        try:
            with self._abort_on_error():
                await self._open()
                self._watch_lines()
        except (SMTPException, OSError) as error:
            raise SessionFailed(self._failure(error)) from error

    async def _open(self) -> None:
        self._phase = "connect"
        await self._smtp.connect()
        if self._server.scheme == "smtp+starttls":
            await self._ehlo()
            self._phase = "tls"
            await self._smtp.starttls()
        await self._ehlo()
        if self._server.user is not None:
            self._phase = "auth"
            await self._authenticate(self._server.user, self._server.password)

    def _watch_lines(self) -> None:
        transport = cast("asyncio.WriteTransport | None", self._smtp.transport)
        if transport is not None:
            self._lines = ReplyLines(cast("asyncio.Protocol", transport.get_protocol()))
            transport.set_protocol(self._lines)

    async def _ehlo(self) -> None:
        self._phase = "ehlo"
        try:
            await self._smtp.ehlo()
        except SMTPHeloError:
            await self._smtp.helo()

    async def _authenticate(self, user: str, password: str) -> None:
        offered = self._smtp.supported_auth_methods
        method = next((method for method in AUTH_METHODS if method in offered), None)
        if method is None:
            raise SMTPException("the server offers no supported authentication method")
        await getattr(self._smtp, f"auth_{method.replace('-', '')}")(user, password)

    async def check_sender(self, sender: str) -> DeliveryResult | None:
        """Announce a message of this sender, and take it back; return the rejection, or None."""
        self._phase = "mail"
        try:
            with self._abort_on_error():
                reply = await self._smtp.execute_command(b"MAIL", f"FROM:<{sender}>".encode())
                if reply.code // 100 != POSITIVE:
                    return self._classify(reply, REJECTED)
                await self._smtp.execute_command(b"RSET")
                return None
        except (SMTPException, OSError) as error:
            return self._failure(error)

    async def send(self, *, sender: str, recipient: str, message: bytes) -> DeliveryResult:
        """Send one message. Afterwards the connection is ready for the next one, or closed."""
        self._phase, self.last_used = "mail", time.monotonic()
        try:
            with self._abort_on_error():
                return self._rejection(sender, recipient, message) or await self._send(sender, recipient, message)
        except (SMTPException, OSError) as error:
            return self._failure(error)
        finally:
            self.last_used = time.monotonic()

    @contextmanager
    def _abort_on_error(self) -> Iterator[None]:
        """Close the connection after an error: a late reply would be taken for that to the next command."""
        try:
            yield
        except BaseException:
            self.abort()
            raise

    def _rejection(self, sender: str, recipient: str, message: bytes) -> DeliveryResult | None:
        if sender and not ADDRESS.fullmatch(sender):
            return rejected_locally("config_error", "mail", f'sender "{sender}": not an address')
        if not ADDRESS.fullmatch(recipient):
            return rejected_locally("bad_address", "rcpt", f'recipient "{recipient}": not an address')
        if not (sender + recipient).isascii() and not self._smtp.supports_extension("smtputf8"):
            return rejected_locally("refused", "rcpt", "the server does not support non-ASCII addresses (SMTPUTF8)")
        if not message.isascii() and not self._smtp.supports_extension("8bitmime"):
            return rejected_locally("refused", "mail", "the server does not support 8-bit messages (8BITMIME)")
        limit = self._smtp.esmtp_extensions.get("size", "")
        if limit.isdecimal() and 0 < int(limit) < len(message):
            return rejected_locally("refused", "mail", f"message of {len(message)} bytes: the server accepts {limit}")
        return None

    async def _send(self, sender: str, recipient: str, message: bytes) -> DeliveryResult:
        self.message_count += 1
        content = _encode_content(message)
        commands: list[tuple[Phase, int, tuple[bytes, ...]]] = [
            ("mail", POSITIVE, (b"MAIL", f"FROM:<{sender}>".encode(), *self._options(sender + recipient, content))),
            ("rcpt", POSITIVE, (b"RCPT", f"TO:<{recipient}>".encode())),
            ("data", CONTINUE, (b"DATA",)),
        ]
        if self._needs_reset:
            commands.insert(0, ("mail", POSITIVE, (b"RSET",)))
        self._needs_reset = True
        for phase, expected, command in commands:
            self._phase = phase
            reply = await self._smtp.execute_command(*command)
            if reply.code // 100 != expected:
                return self._classify(reply, REJECTED)
        reply = await self._send_content(content)
        self._needs_reset = False
        return self._classify(reply, (POSITIVE, *REJECTED))

    def _options(self, addresses: str, content: bytes) -> list[bytes]:
        options = []
        if self._smtp.supports_extension("size"):
            options.append(b"SIZE=%d" % len(content))
        if not content.isascii():
            options.append(b"BODY=8BITMIME")
        if not addresses.isascii():
            options.append(b"SMTPUTF8")
        return options

    async def _send_content(self, content: bytes) -> SMTPResponse:
        """Send the content and its final dot, and return the reply.

        A short message leaves in one write: if the connection is lost from then on, it may have arrived. The dot of a
        longer one waits until all before it has left this process; the server may reject it before that.
        """
        protocol, transport = self._smtp.protocol, cast("asyncio.WriteTransport | None", self._smtp.transport)
        if protocol is None or transport is None:
            raise ConnectionError("connection lost")
        if len(content) <= MAX_SINGLE_WRITE:
            self._phase = "end_of_data"
            protocol.write(content + b".\r\n")
            return await protocol.read_response(self._data_timeout)
        reply = asyncio.ensure_future(protocol.read_response())
        try:
            protocol.write(content)
            async with asyncio.timeout(self._data_timeout):
                while transport.get_write_buffer_size() and not reply.done():
                    await asyncio.wait({reply}, timeout=POLL_INTERVAL)
            if reply.done():
                raise SMTPResponseException(*reply.result())
            self._phase = "end_of_data"
            protocol.write(b".\r\n")
            async with asyncio.timeout(self._data_timeout):
                return await reply
        finally:
            reply.cancel()

    def _classify(self, reply: SMTPResponse, expected: tuple[int, ...]) -> DeliveryResult:
        """Classify a reply by its first digit; after any other digit, the session is out of step."""
        if reply.code // 100 not in expected:
            raise SMTPResponseException(reply.code, reply.message)
        if reply.code == CLOSING:
            self.abort()
        return classify_reply(self._phase, reply.code, reply.message, secrets=self._server.secrets)

    def _failure(self, error: Exception) -> DeliveryResult:
        secrets, phase = self._server.secrets, self._phase
        if isinstance(error, SMTPResponseException):
            return classify_reply(phase, error.code, error.message, secrets=secrets)
        if phase in SESSION_PHASES and (reason := _incompatibility(error)):
            return rejected_locally("config_error", phase, reason, secrets=secrets)
        reason = "timed out" if type(error) is TimeoutError else str(error) or type(error).__name__
        return connection_lost(phase, f"{reason} ({phase})", secrets=secrets)

    async def quit(self) -> None:
        try:
            if self.is_open:
                with suppress(SMTPException, OSError):
                    await self._smtp.execute_command(b"QUIT", timeout=QUIT_TIMEOUT)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the socket now, with unsent data in it."""
        transport = cast("asyncio.WriteTransport | None", self._smtp.transport)
        self._smtp.close()
        if transport is not None:
            transport.abort()


def _incompatibility(error: Exception) -> str | None:
    """Return why no session with this server will ever open; None for what may pass."""
    for each in (error, error.__cause__):
        if isinstance(each, ssl.SSLError) and not isinstance(each, ssl.SSLEOFError):
            return f"TLS with the server failed: {each}"
    return error.message if type(error) is SMTPException else None  # the server lacks what the URL requires


def _encode_content(message: bytes) -> bytes:
    """Normalise line ends to CRLF, the last one included, and double a dot at the start of a line."""
    breaks = message.count(b"\r\n")
    if message.count(b"\n") != breaks or message.count(b"\r") != breaks:
        message = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    if not message.endswith(b"\r\n"):
        message += b"\r\n"
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..")
