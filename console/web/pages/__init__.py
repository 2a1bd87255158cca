"""The pages, one module for each group; the app collects the `ROUTES` of each."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from starlette.routing import BaseRoute


def routes() -> Iterator[BaseRoute]:
    for module in iter_modules(__path__, prefix=f"{__name__}."):
        yield from import_module(module.name).ROUTES
