"""A foreign mail server, as a probe sees it."""

import contextlib
import socketserver
import ssl
import threading
from collections.abc import Iterator


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        greeting: bytes = self.server.greeting  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            self.wfile.write(greeting + b"\r\n")
            for line in self.rfile:
                self.wfile.write(b"221 bye\r\n" if line.upper().startswith(b"QUIT") else b"250 fine\r\n")


@contextlib.contextmanager
def greeter(greeting: str = "220 hello", *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Yield a port that sends this greeting and accepts every command."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Conversation) as server:
        server.greeting = greeting.encode()  # type: ignore[attr-defined]
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()
