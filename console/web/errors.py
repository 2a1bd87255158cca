"""Pages for what does not exist, is not allowed, or cannot be shown while a server is unavailable."""

from http import HTTPStatus
from typing import Any

from loguru import logger
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from console.cli.main import user_message
from console.web.actions import back_to
from console.web.rendering import render
from pocketwatch.errors import DatabaseUnreachable, PocketwatchError, PublishFailed, ServerUnreachable
from pocketwatch.storage.database import is_outage, reason_of

FAILED = "web.page_failed"
REMEDIES = {
    404: "Check the address, or start from the overview.",
    405: "This address only accepts forms; start from the overview.",
}
AWAY = "The page works again as soon as the server answers; for the cause, run: pocketwatch doctor"


async def on_http(request: Request, error: Any) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for it
    title = HTTPStatus(error.status_code).phrase
    detail = error.detail if error.detail != title else ""
    response = _page(request, error.status_code, title, detail, REMEDIES.get(error.status_code, ""))
    response.headers.update(error.headers or {})
    return response


async def on_pocketwatch(request: Request, error: Any) -> Response:
    if isinstance(error, DatabaseUnreachable | ServerUnreachable | PublishFailed):
        title = "The database is unavailable" if isinstance(error, DatabaseUnreachable) else "The broker is unavailable"
        return _page(request, 503, title, str(error), AWAY)
    assert isinstance(error, PocketwatchError)  # noqa: S101
    return _page(request, 400, "The request was refused", str(error), "")


async def on_database(request: Request, error: Any) -> Response:
    if is_outage(error):
        return _page(request, 503, "The database is unavailable", reason_of(error), AWAY)
    if (known := user_message(error)) is not None:
        return _page(request, 503, "The database cannot be read", known, "")
    return await on_bug(request, error)


async def on_bug(request: Request, error: Any) -> Response:
    logger.opt(exception=error).bind(path=request.url.path).error(FAILED)
    return _page(request, 500, "Internal error", type(error).__name__, "The console's log has the details.")


HANDLERS: dict[Any, Any] = {
    HTTPException: on_http,
    PocketwatchError: on_pocketwatch,
    SQLAlchemyError: on_database,
}


def _page(request: Request, status: int, title: str, detail: str, remedy: str) -> Response:
    if getattr(request.state, "identity", None) is None:
        request.state.identity = None
    shown = {"title": title, "detail": detail, "remedy": remedy, "back": _back(request, status)}
    return render(request, "web/error.html", status_code=status, **shown)


def _back(request: Request, status: int) -> str | None:
    """Return the page that may work when it is loaded again: of a form, or after an outage."""
    if request.method != "GET":
        return back_to(request)
    return request.url.path if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
