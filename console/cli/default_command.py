"""A group of commands of which one may be left out."""

from typing import Any

from typer.core import TyperGroup

DEFAULT = "list"


class DefaultCommand(TyperGroup):
    """Runs `list` where no command is named: `pocketwatch runs --job x` is `pocketwatch runs list --job x`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)
