"""Help as plain text. What draws it in boxes takes as long to load as all commands together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

__all__ = ["WRONG_USAGE", "PlainGroup"]

WRONG_USAGE = 2
WHOLE = 1000


class PlainGroup(TyperGroup):
    """Commands under one name, each with its whole first sentence: by itself, plain help cuts them to one line."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Writes the list of commands."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, each.get_short_help_str(WHOLE)) for name, each in commands if each and not each.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Shows the help where no command is given, and counts that as wrong usage."""
        if not args and self.no_args_is_help:
            typer.echo(ctx.get_help())
            ctx.exit(WRONG_USAGE)
        return super().parse_args(ctx, args)
