"""`/sign-in` and `/sign-out`."""

import asyncio
import secrets
import time

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from console.web import flash
from console.web.access.sessions import COOKIE
from console.web.actions import CSRF_FIELD, STALE_FORM, checked_form, is_own_path, read_form
from console.web.rendering import render
from console.web.resources import resources_of

FORM_COOKIE = "pocketwatch_form"  # what the form's token is bound to before there is a session
FAILURE_TAKES = 1.0  # seconds, so that it does not say whether the name exists
WRONG = "Name or password is wrong."


async def show(request: Request) -> Response:
    if getattr(request.state, "identity", None) is not None:
        return RedirectResponse("/", 303)
    return _form(request, target=request.query_params.get("next", ""))


async def sign_in(request: Request) -> Response:
    began, access = time.monotonic(), resources_of(request).access
    form = await read_form(request)
    nonce, token = request.cookies.get(FORM_COOKIE), str(form.get(CSRF_FIELD, ""))
    if not nonce or not access.is_own_form(request, nonce, token):
        raise HTTPException(403, STALE_FORM)
    name = str(form.get("name", "")).strip()
    target = str(form.get("next", ""))
    result = await access.sign_in(name, str(form.get("password", "")), address=access.address_of(request))
    if isinstance(result, float):
        error = f"Too many attempts; try again in {round(result) + 1} s."
        return _form(request, target=target, name=name, error=error, status=429)
    if result is None:
        await asyncio.sleep(began + FAILURE_TAKES - time.monotonic())
        return _form(request, target=target, name=name, error=WRONG, status=401)
    response = RedirectResponse(target if is_own_path(target) else "/", 303)
    secure = access.is_secure(request)
    response.set_cookie(COOKIE, result.token, max_age=access.lifetime, httponly=True, samesite="strict", secure=secure)
    response.delete_cookie(FORM_COOKIE)
    return response


def _form(request: Request, *, target: str, name: str = "", error: str | None = None, status: int = 200) -> Response:
    nonce, access = request.cookies.get(FORM_COOKIE) or secrets.token_urlsafe(24), resources_of(request).access
    response = render(
        request,
        "web/sign_in.html",
        status_code=status,
        csrf_token=access.csrf_token(nonce),
        name=name,
        error=error,
        next=target if is_own_path(target) else "/",
        has_passwords=bool(access.methods),
    )
    response.set_cookie(FORM_COOKIE, nonce, httponly=True, samesite="strict", secure=access.is_secure(request))
    return response


async def sign_out(request: Request) -> Response:
    await checked_form(request)
    await resources_of(request).access.sign_out(request)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    flash.add(response, "done", "You are signed out.")
    return response


ROUTES: list[BaseRoute] = [
    Route("/sign-in", show, methods=["GET"]),
    Route("/sign-in", sign_in, methods=["POST"]),
    Route("/sign-out", sign_out, methods=["POST"]),
]
