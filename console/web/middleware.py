"""What holds for every request: which hosts are answered, who asks, and the headers that protect the answer."""

from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.web import errors, flash
from console.web.actions import back_to
from console.web.rendering import here
from console.web.resources import Resources

POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
NOT_CACHED = "no-store"
STATIC_PREFIX = "/static/"
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = ("/sign-in",)
ENDED = "Your session has ended, and nothing was changed; sign in and repeat the action."


class Guard:
    """Wraps the app: an answer that leaves has the protecting headers, a request that enters has an identity."""

    def __init__(self, app: ASGIApp, resources: Resources) -> None:
        self._app, self._resources = app, resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                _protect(scope["path"], MutableHeaders(scope=message))
            await send(message)

        request = Request(scope)
        answer = self._app if (refusal := await self._refusal(request)) is None else refusal
        await answer(scope, receive, send_protected)

    async def _refusal(self, request: Request) -> Response | None:
        if not self._is_known_host(request):
            return PlainTextResponse("This host name is not served here; see POCKETWATCH_WEB_HOSTS.\n", 421)
        path = request.url.path
        if path.startswith(STATIC_PREFIX):
            return None
        try:
            request.state.identity = await self._resources.access.identify(request)
        except HTTPException as refused:
            return await errors.on_http(request, refused)
        if request.state.identity is not None or path in OPEN_PATHS:
            return None
        is_read = request.method == "GET"
        is_page = "text/html" in request.headers.get("accept", "") or is_read
        if not is_page or path == "/events" or "hx-request" in request.headers:
            return PlainTextResponse("Sign in first.\n", 401, headers={"HX-Redirect": "/sign-in"})
        wanted = here(request) if is_read else back_to(request)
        response = RedirectResponse(f"/sign-in?next={quote(wanted, safe='/')}", 303)
        if not is_read:
            flash.add(response, "problem", ENDED)
        return response

    def _is_known_host(self, request: HTTPConnection) -> bool:
        """Refuse names that an attacker's page has made resolve to this machine (DNS rebinding)."""
        try:
            name = urlsplit(f"//{request.headers.get('host', '')}").hostname
        except ValueError:
            return False
        web = self._resources.settings.web
        return name in LOCAL_HOSTS or name in web.hosts or (bool(web.sign_in) and _is_address(name))


def _is_address(name: str | None) -> bool:
    """Whether a host is an address: no other site can have a name resolve to that."""
    try:
        ip_address(name or "")
    except ValueError:
        return False
    return True


def _protect(path: str, headers: Any) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if not path.startswith(STATIC_PREFIX):
        headers["Cache-Control"] = NOT_CACHED
