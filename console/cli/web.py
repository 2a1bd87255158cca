"""`web`: the console in the browser, and its users."""

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncConnection

from console.cli.processes import DOCUMENTS
from pocketwatch.command import current_user, database, read_settings, run
from pocketwatch.errors import PocketwatchError
from pocketwatch.service import run_process
from pocketwatch.settings import Settings
from pocketwatch.storage.tables.suite import ROLES
from pocketwatch.terminal import AsJson, print_json, print_table, say

app = typer.Typer(add_completion=False)
users_app = typer.Typer(add_completion=False, no_args_is_help=True)
app.add_typer(users_app, name="user", help="Add, list, change and remove users of the console.")

COLUMNS = ("name", "role", "created_at", "changed_at")
Name = Annotated[str, typer.Argument(help="The user's name.")]
RoleOption = typer.Option(help=f"What the user may do: {' or '.join(ROLES)}; a viewer can change nothing.")


@app.callback(invoke_without_command=True)
def web(
    context: typer.Context,
    host: Annotated[
        str, typer.Option(help="The address to listen on; any other than the loopback needs POCKETWATCH_WEB_SIGN_IN.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any free one.")] = 8080,
) -> None:
    """Serve the console for the browser, until SIGTERM or Ctrl-C.

    Example: pocketwatch web --port 8081
    """
    if context.invoked_subcommand is not None:
        return
    from console.web.server import WebApp  # noqa: PLC0415  no other command needs the web server

    run_process(lambda settings: [WebApp(settings, host=host, port=port)], documents=DOCUMENTS)


@users_app.command("add")
def add(name: Name, role: Annotated[str, RoleOption] = ROLES[0]) -> None:
    """Add a user; the password is asked for, or read from standard input.

    Example: pocketwatch web user add olena --role operator
    """
    from console.web import users  # noqa: PLC0415

    settings, password = read_settings(), users.checked(_password())
    who = {"role": _known(role), "actor": _author(), "source": "cli"}
    _change(settings, lambda connection: users.add(connection, name, password, **who))
    say(f"{name} may sign in as {role}, if POCKETWATCH_WEB_SIGN_IN includes users")


@users_app.command("list")
def list_users(as_json: AsJson = False) -> None:
    """Show all users.

    Example: pocketwatch web user list
    """
    from console.web import users  # noqa: PLC0415

    found = _change(read_settings(), users.listed)
    if as_json:
        print_json(found)
    else:
        print_table("users", COLUMNS, [[row[column] for column in COLUMNS] for row in found])


@users_app.command("password")
def password(name: Name) -> None:
    """Change a user's password, which ends their sessions; it is asked for, or read from standard input.

    Example: pocketwatch web user password olena
    """
    from console.web import users  # noqa: PLC0415

    settings, new = read_settings(), users.checked(_password())
    _change(settings, lambda connection: users.change(connection, name, password=new, actor=_author(), source="cli"))
    say(f"the password of {name} is changed, and their sessions have ended")


@users_app.command("role")
def role(name: Name, role: Annotated[str, typer.Argument(help=f"{' or '.join(ROLES)}.")]) -> None:
    """Change a user's role, which ends their sessions.

    Example: pocketwatch web user role olena viewer
    """
    from console.web import users  # noqa: PLC0415

    who = {"role": _known(role), "actor": _author(), "source": "cli"}
    _change(read_settings(), lambda connection: users.change(connection, name, **who))
    say(f"{name} is {role} now, and their sessions have ended")


@users_app.command("remove")
def remove(name: Name) -> None:
    """Remove a user, which ends their sessions.

    Example: pocketwatch web user remove olena
    """
    from console.web import users  # noqa: PLC0415

    _change(read_settings(), lambda connection: users.remove(connection, name, actor=_author(), source="cli"))
    say(f"{name} is removed")


def _known(role: str) -> Any:
    if role not in ROLES:
        raise PocketwatchError(f'role "{role}" does not exist; use {" or ".join(ROLES)}')
    return role


def _author() -> str:
    return current_user(option="USER=…")


def _password() -> str:
    if sys.stdin.isatty():
        asked: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return asked
    return sys.stdin.readline().rstrip("\r\n")


def _change(settings: Settings, change: Callable[[AsyncConnection], Awaitable[Any]]) -> Any:
    async def changed() -> Any:
        async with database(settings, "web") as opened, opened.begin() as connection:
            return await change(connection)

    return run(changed())
