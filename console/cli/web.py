"""`web`: the console in the browser."""

from typing import Annotated

import typer

from pocketwatch.command import read_settings, run
from pocketwatch.service import serve

app = typer.Typer(add_completion=False)


@app.callback(invoke_without_command=True)
def web(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="The address to listen on; any but the loopback needs a sign-in.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")] = 8080,
) -> None:
    """Serve the console for the browser, until SIGTERM or Ctrl-C.

    Example: pocketwatch web --port 8081
    """
    if context.invoked_subcommand is not None:
        return
    from console.web.server import WebApp  # noqa: PLC0415  no other command needs the web server

    settings = read_settings(quiet=False)
    run(serve([WebApp(settings, host=host, port=port)], settings))
