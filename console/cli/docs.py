"""`docs`: the contracts of the messages, as files for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from console import contracts
from pocketwatch.errors import PocketwatchError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Write the contracts of the messages.")


@app.command("asyncapi")
def asyncapi(
    output: Annotated[Path | None, typer.Option(help="The file to write; standard output by default.")] = None,
) -> None:
    """Write the AsyncAPI 3 document of every message that is received or sent.

    Example: pocketwatch docs asyncapi --output asyncapi.json
    """
    text = contracts.as_text(contracts.asyncapi_document())
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)


@app.command("schemas")
def schemas(
    output: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("schemas"),
) -> None:
    """Write the JSON schema of each message: `receive/QUEUE.json` and `send/ROUTING_KEY.json`.

    Example: pocketwatch docs schemas --output schemas
    """
    for name, schema in contracts.schemas():
        _write(output / name, contracts.as_text(schema))


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PocketwatchError(f"{file}: cannot be written: {error.strerror}") from error
