"""Help as plain text, and commands that are read when they are called.

What draws help in boxes takes as long to load as all commands together. To read the options of all commands off their
functions takes two thirds of that again, and at most one of them is called.
"""

from __future__ import annotations

import inspect
from copy import copy
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_command_name, get_group_from_info
from typer.models import TyperInfo

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter
    from typer.models import CommandInfo

__all__ = ["WRONG_USAGE", "PlainGroup", "group_of"]

WRONG_USAGE = 2
WHOLE = 1000


class PlainGroup(TyperGroup):
    """Commands under one name, each with its whole first sentence: by itself, plain help cuts them to one line."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.unread: dict[str, CommandInfo] = {}
        """Commands of which there is only the name and the help as yet."""

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """The command of a name, with its options; `None` if there is none."""
        if info := self.unread.pop(cmd_name, None):
            self.commands[cmd_name] = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode=None)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:  # noqa: ARG002  # Typer's signature
        """Writes the list of commands."""
        rows = [(name, each.get_short_help_str(WHOLE)) for name, each in self.commands.items() if not each.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Shows the help where no command is given, and counts that as wrong usage."""
        if not args and self.no_args_is_help:
            typer.echo(ctx.get_help())
            ctx.exit(WRONG_USAGE)
        return super().parse_args(ctx, args)


def group_of(app: typer.Typer) -> TyperGroup:
    """The commands of an app and of the groups in it, none of them read yet."""
    return _group(app, TyperInfo(app))


def _group(app: typer.Typer, info: TyperInfo) -> TyperGroup:
    own, empty = copy(info), copy(app)
    own.typer_instance, empty.registered_commands, empty.registered_groups = empty, [], []
    group = get_group_from_info(own, pretty_exceptions_short=False, suggest_commands=True, rich_markup_mode=None)
    if not isinstance(group, PlainGroup):
        raise TypeError("Every group of commands is a PlainGroup")
    for command in app.registered_commands:
        if command.callback is not None:
            name = command.name or get_command_name(command.callback.__name__)
            group.unread[name] = command
            group.commands[name] = TyperCommand(name=name, help=inspect.getdoc(command.callback))
    for each in app.registered_groups:
        if each.typer_instance is not None and each.name is not None:
            group.commands[each.name] = _group(each.typer_instance, each)
    return group
