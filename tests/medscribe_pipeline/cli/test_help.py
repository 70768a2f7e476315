"""Commands that are read when they are called are those Typer reads at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer.main
from typer.core import TyperGroup

from medscribe_pipeline.cli.app import app
from medscribe_pipeline.cli.help import PlainGroup, group_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer._click import Command

WIDE = 1000


def everything(command: Command, path: tuple[str, ...] = ("medscribe",)) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Every command under this one: its path, its help, and its line in the help of its group."""
    context = typer.Context(command, info_name=" ".join(path), terminal_width=WIDE)
    yield path, command.get_help(context), command.get_short_help_str(WIDE)
    if isinstance(command, TyperGroup):
        for name in command.list_commands(context):
            each = command.get_command(context, name)
            assert each
            yield from everything(each, (*path, name))


def test_all_commands_are_there_with_their_options_in_the_same_order() -> None:
    at_once = list(everything(typer.main.get_command(app)))

    assert len(at_once) > 40
    assert list(everything(group_of(app))) == at_once


def test_the_list_of_commands_reads_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr("medscribe_pipeline.cli.help.get_command_from_info", lambda info, **_: read.append(info))
    group = group_of(app)

    shown = group.get_help(typer.Context(group, info_name="medscribe"))

    assert "  sync  " in shown
    assert not read


def test_a_command_is_read_once() -> None:
    group = group_of(app)
    context = typer.Context(group, info_name="medscribe")

    assert group.get_command(context, "sync") is group.get_command(context, "sync")
    assert group.get_command(context, "bogus") is None


def test_a_group_that_would_show_cut_lines_is_refused() -> None:
    mixed = typer.Typer(cls=PlainGroup)
    mixed.add_typer(typer.Typer(), name="boxes")

    with pytest.raises(TypeError, match="PlainGroup"):
        group_of(mixed)
