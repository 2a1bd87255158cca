"""The application of the console: its pages, its live events, and its static files."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from console.web import changes, errors, pages
from console.web.middleware import Guard
from console.web.rendering import STATIC
from console.web.resources import Resources
from pocketwatch.settings import Settings


def create_app(settings: Settings, resources: Resources) -> Starlette:  # noqa: ARG001
    app = Starlette(
        routes=[
            *pages.routes(),
            Route("/events", changes.stream),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
        ],
        middleware=[Middleware(Guard, resources=resources)],
        exception_handlers={**errors.HANDLERS, Exception: errors.on_bug},
    )
    app.state.resources = resources
    return app
