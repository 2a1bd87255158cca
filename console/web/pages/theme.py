"""The switch between light and dark."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from console.web.actions import back_to, checked_form
from console.web.rendering import THEME_COOKIE, THEMES

LIFETIME = 365 * 86400  # seconds


async def choose(request: Request) -> Response:
    form = await checked_form(request)
    response = RedirectResponse(back_to(request, form), status_code=303)
    if (theme := form.get("theme")) in THEMES:
        response.set_cookie(THEME_COOKIE, str(theme), max_age=LIFETIME, httponly=True, samesite="lax")
    return response


ROUTES: list[BaseRoute] = [Route("/theme", choose, methods=["POST"])]
