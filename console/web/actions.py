"""Changes: sent by a form of a page, allowed to operators, and answered with a redirect that shows what was done."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Final
from urllib.parse import urlsplit

from loguru import logger
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from console.operations.operator import Operator
from console.web import flash, parameters
from console.web.access import Identity
from console.web.resources import resources_of
from pocketwatch.errors import DatabaseUnreachable, PocketwatchError
from pocketwatch.storage.operator_actions import Source

SOURCE: Final[Source] = "web"  # of rows in `operator_actions`
REFUSED, DONE = "web.action_refused", "web.action_done"
CSRF_FIELD = "csrf_token"
MAX_FIELDS = 2000
MAX_FIELD_SIZE = 2 * 2**20  # bytes
STALE_FORM = "the form does not belong to this session; reload the page and repeat the action"

# Gets the request, the form's fields and who sends it.
Handler = Callable[[Request, FormData, str], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def action(handler: Handler) -> Endpoint:
    """Make an endpoint for `Route(…, methods=["POST"])` that only operators may use, from a page of the console.

    An error that the operator can fix is shown on the page that the form was on (`back_to`).
    """

    @wraps(handler)
    async def endpoint(request: Request) -> Response:
        identity: Identity = request.state.identity
        form = await checked_form(request)
        if not identity.is_operator:
            raise _refused(request, "only operators can change something; ask an administrator for the role operator")
        try:
            response = await handler(request, form, identity.name)
        except DatabaseUnreachable:
            raise
        except PocketwatchError as error:
            logger.bind(path=request.url.path, actor=identity.name, error=str(error)).warning(REFUSED)
            return failed(request, str(error), form=form)
        logger.bind(path=request.url.path, actor=identity.name).info(DONE)
        return response

    return endpoint


async def checked_form(request: Request) -> FormData:
    """Return the fields of a form that a page of this console has shown to this person.

    Raises:
        HTTPException: when it was not (403).
    """
    form = await read_form(request)
    token, access = form.get(CSRF_FIELD), resources_of(request).access
    if not isinstance(token, str) or not access.is_own_form(request, request.state.identity.session, token):
        raise _refused(request, STALE_FORM)
    return form


async def read_form(request: Request) -> FormData:
    """Return the fields of a form, unchecked; it cannot have files."""
    return await request.form(max_files=0, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_SIZE)


def operator_of(form: FormData, actor: str) -> Operator:
    """Return who sends a form, and the reason that it gives in its field `why`."""
    return Operator(actor, SOURCE, parameters.text(form, "why") or None)


def _refused(request: Request, reason: str) -> HTTPException:
    logger.bind(path=request.url.path, actor=request.state.identity.name, reason=reason).warning(REFUSED)
    return HTTPException(403, reason)


def done(request: Request, text: str, *, to: str) -> Response:
    """Show a page, with a message of what was done."""
    return _redirect(request, "done", text, to)


def failed(request: Request, text: str, *, form: FormData | None = None, to: str | None = None) -> Response:
    """Show the page that the form was on, or another, with the reason why nothing was done."""
    return _redirect(request, "problem", text, to or back_to(request, form))


def back_to(request: Request, form: FormData | None = None) -> str:
    """Return the path of the page that the form was on: its field `back`, or else the referrer."""
    named = None if form is None else form.get("back")
    if isinstance(named, str) and is_own_path(named):
        return named
    referrer = urlsplit(request.headers.get("referer", ""))
    if referrer.netloc == request.headers.get("host") and is_own_path(referrer.path):
        return referrer.path + (f"?{referrer.query}" if referrer.query else "")
    return "/"


def is_own_path(text: str) -> bool:
    """Whether a browser that is sent there stays in the console."""
    return text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() and "\\" not in text


def _redirect(request: Request, kind: flash.Kind, text: str, to: str) -> Response:  # noqa: ARG001
    response = RedirectResponse(to, status_code=303)
    flash.add(response, kind, text)
    return response
